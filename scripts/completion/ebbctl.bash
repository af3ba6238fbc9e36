# SPDX-License-Identifier: Apache-2.0
# bash completion for ebbctl; `make install` puts it where bash-completion looks.
_ebbctl()
{
	local word=${COMP_WORDS[COMP_CWORD]} tree=${EBBTIDE_TREE:-/run/ebbtide}
	local command=${COMP_WORDS[1]}

	case $COMP_CWORD in
	1) mapfile -t COMPREPLY < <(compgen -W 'status top trace get set --help --version --tree' -- "$word") ;;
	2)
		case $command in
		trace | get | set)
			mapfile -t COMPREPLY < <(compgen -W "$(cd "$tree/services" 2>/dev/null && echo */*)" -- "$word")
			;;
		esac
		;;
	3)
		[ "$command" = set ] && mapfile -t COMPREPLY < <(compgen -W \
			"$(cd "$tree/services/${COMP_WORDS[2]}/objective" 2>/dev/null && echo ./* | sed 's#\./##g')" -- "$word")
		;;
	esac
}
complete -F _ebbctl ebbctl
