# SPDX-License-Identifier: Apache-2.0
# bash completion for ebbctl; `make install` puts it where bash-completion looks.
_ebbctl()
{
	local word=${COMP_WORDS[COMP_CWORD]} previous=${COMP_WORDS[COMP_CWORD - 1]}
	local tree=${EBBTIDE_TREE:-/run/ebbtide} command=${COMP_WORDS[1]} services
	local trace='--slower --errors --one-in --exemplars --kept --follow --count --for --waterfall
		--json --perfetto --help'
	local explain='--at --count --unit --state --watch --json --learner --journal --help'

	services=$(cd "$tree/services" 2>/dev/null && echo */*)
	if [ "$COMP_CWORD" = 1 ]; then
		mapfile -t COMPREPLY < <(compgen -W 'status top trace explain get set --help --version --tree' -- "$word")
		return
	fi
	case $command:$COMP_CWORD in
	trace:*)
		case $previous in
		--slower | --for) mapfile -t COMPREPLY < <(compgen -W '500us 5ms 20ms 100ms 1s' -- "$word") ;;
		--one-in | --count | -n) ;;
		--perfetto) mapfile -t COMPREPLY < <(compgen -f -- "$word") ;;
		*)
			case $word in
			-*) mapfile -t COMPREPLY < <(compgen -W "$trace" -- "$word") ;;
			*) mapfile -t COMPREPLY < <(compgen -W "$services" -- "$word") ;;
			esac
			;;
		esac
		;;
	explain:*)
		case $previous in
		--at) mapfile -t COMPREPLY < <(compgen -W '-30s -5m -1h' -- "$word") ;;
		--count | -n | --unit) ;;
		--learner) mapfile -t COMPREPLY < <(compgen -W "$(cat "$tree/agent/learner" 2>/dev/null)" -- "$word") ;;
		--journal) mapfile -t COMPREPLY < <(compgen -f -- "$word") ;;
		*)
			case $word in
			-*) mapfile -t COMPREPLY < <(compgen -W "$explain" -- "$word") ;;
			*) mapfile -t COMPREPLY < <(compgen -W "$services" -- "$word") ;;
			esac
			;;
		esac
		;;
	top:*) mapfile -t COMPREPLY < <(compgen -W '--once --interval' -- "$word") ;;
	get:2 | set:2) mapfile -t COMPREPLY < <(compgen -W "$services" -- "$word") ;;
	get:3)
		mapfile -t COMPREPLY < <(compgen -W \
			"$(cd "$tree/services/${COMP_WORDS[2]}" 2>/dev/null && find . -type f | sed 's#^\./##')" -- "$word")
		;;
	set:3)
		mapfile -t COMPREPLY < <(compgen -W \
			"$(cd "$tree/services/${COMP_WORDS[2]}/objective" 2>/dev/null && echo ./* | sed 's#\./##g')" -- "$word")
		;;
	esac
}
complete -F _ebbctl ebbctl
