/* SPDX-License-Identifier: Apache-2.0 */
/* scratch: a directory for one test, gone afterwards with all that is in it. */
#ifndef TESTS_SUPPORT_LIB_SCRATCH_H
#define TESTS_SUPPORT_LIB_SCRATCH_H

struct scratch {
	char path[64];
	int dir; /* O_DIRECTORY */
};

/* Below TMPDIR or /tmp; ends the test program when it cannot. */
void scratch_make(struct scratch *s);
/* May be repeated. */
void scratch_remove(struct scratch *s);

#endif
