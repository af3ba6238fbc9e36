// SPDX-License-Identifier: Apache-2.0
#ifndef EBBTIDE_DESCRIPTORS_H
#define EBBTIDE_DESCRIPTORS_H

/* Have room for @wanted open files, if the hard limit or a privilege allows it; how many it is. */
unsigned long descriptors_allow(unsigned long wanted);

#endif
