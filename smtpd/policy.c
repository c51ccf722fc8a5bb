/* SPDX-License-Identifier: Apache-2.0 */
#include "smtpd/policy.h"

bool policy_is_trusted(const struct settings *s, const struct endpoint *client)
{
	return cidr_list_has(&s->mynetworks, client);
}

/* Whether mail for the domain is delivered here. A local part that names another route
 * (a%b, a!b) is a local part: nothing here ever takes it apart. */
static bool is_ours(const struct settings *s, const struct address *rcpt)
{
	for (size_t i = 0; i < s->destination_count; i++) {
		if (slice_eq_nocase(s->destinations[i], rcpt->domain)) {
			return true;
		}
	}
	return false;
}

enum relay_answer policy_relay(const struct settings *s, bool is_trusted,
	const struct address *rcpt)
{
	bool ours = is_ours(s, rcpt);

	for (size_t i = 0; i < s->relay_count; i++) {
		switch (s->relay[i]) {
		case RELAY_PERMIT_MYNETWORKS:
			if (is_trusted) {
				return RELAY_OK;
			}
			break;
		case RELAY_PERMIT:
			return RELAY_OK;
		case RELAY_REJECT:
			return RELAY_REFUSED;
		case RELAY_DEFER:
			return RELAY_DEFERRED;
		case RELAY_REJECT_UNAUTH:
			if (!ours) {
				return RELAY_REFUSED;
			}
			break;
		case RELAY_DEFER_UNAUTH:
			if (!ours) {
				return RELAY_DEFERRED;
			}
			break;
		case RELAY_RULE_COUNT:
			break;
		}
	}
	return ours ? RELAY_OK : RELAY_REFUSED;
}

bool policy_is_postmaster(const struct address *rcpt)
{
	return rcpt->domain.n == 0 && slice_eq_nocase(rcpt->local, SLICE("postmaster"));
}
