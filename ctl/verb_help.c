/* SPDX-License-Identifier: Apache-2.0 */
#include <stdio.h>
#include <string.h>
#include <sysexits.h>

#include "build_paths.h"
#include "ctl/command.h"
#include "ctl/output.h"

int verb_help(struct command *c)
{
	if (c->count != 0) {
		const struct verb *v = verb_find(c->args[0]);
		if (v == NULL) {
			return usage_error("no verb is called %s; see ekiden help", c->args[0]);
		}
		out_printf("ekiden [-c DIR] %s%s%s\n    %s\n", v->name,
			v->synopsis[0] == '\0' ? "" : " ", v->synopsis, v->summary);
		if (v->help[0] != '\0') {
			out_printf("\n%s", v->help);
		}
		return EX_OK;
	}
	out_printf("ekiden [-c DIR] VERB ...        DIR: $MAIL_CONFIG, or %s/ekiden\n\n",
		PATH_SYSCONFDIR);
	for (size_t i = 0; verb_at(i) != NULL; i++) {
		out_printf("  %-10s %s\n", verb_at(i)->name, verb_at(i)->summary);
	}
	out_printf(
		"\nekiden help VERB tells more. Every verb that reads takes --json. The exit status is 0 "
		"only\nwhen what was asked was done.\n");
	return EX_OK;
}
