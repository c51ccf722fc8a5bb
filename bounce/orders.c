/* SPDX-License-Identifier: Apache-2.0 */
#include "bounce/orders.h"

#include <stdlib.h>
#include <sysexits.h>

#include "common/base/alloc.h"
#include "common/base/clock.h"
#include "common/base/list.h"
#include "common/base/str.h"
#include "common/mail/address.h"
#include "common/mail/verdict.h"
#include "common/proc/control.h"

struct orders {
	struct suppressor *suppressor;
	struct journal_writer *journal;
	struct control *control;
	struct list all;
};

/* A change of the list that is under way. */
struct order {
	struct list link;
	struct orders *orders;
	struct ask *ask;
	uint8_t verb;
	char address[LIMIT_ADDRESS + 1];
	char operator_name[LIMIT_NAME + 1];
};

static void order_free(struct order *o)
{
	list_remove(&o->link);
	free(o);
}

static void on_changed(void *arg, enum err e)
{
	struct order *o = arg;
	struct event_operated event = {.operator_name = slice_from_cstr(o->operator_name),
		.verb = o->verb == CTL_SUPPRESS_ADD ? SLICE("suppress add")
						    : SLICE("suppress remove"),
		.operand = slice_from_cstr(o->address),
		.count = 1};

	if (e == ERR_OK) {
		journal_operated(o->orders->journal, clock_wall_us(), &event);
		ask_done(&o->ask, EX_OK, 1, SLICE_EMPTY);
	} else if (e == ERR_NOTFOUND) {
		ask_done(&o->ask, EX_UNAVAILABLE, 0, SLICE("the address is not on the list"));
	} else {
		ask_done(&o->ask, EX_IOERR, 0, SLICE("the list cannot be written"));
	}
	order_free(o);
}

/* What is on the list already can be taken off it, whatever it is. */
static bool is_fit(uint8_t verb, struct slice operand)
{
	struct address address;

	return operand.n <= LIMIT_ADDRESS && slice_find(operand, 0) == operand.n &&
	       (verb == CTL_SUPPRESS_REMOVE ||
		       address_parse(operand, ADDRESS_UTF8 | ADDRESS_LAX_DOTS, &address) ==
			       ADDRESS_FINE);
}

static void on_ask(void *arg, struct ask *ask, const struct msg_ctl_ask *m)
{
	struct orders *all = arg;

	if (m->verb != CTL_SUPPRESS_ADD && m->verb != CTL_SUPPRESS_REMOVE) {
		ask_done(&ask, EX_USAGE, 0, SLICE("no command for this program"));
		return;
	}
	struct order *o = alloc_zero(1, sizeof(*o));
	o->orders = all;
	o->ask = ask;
	o->verb = m->verb;
	list_append(&all->all, &o->link);
	if (!is_fit(m->verb, m->operand) ||
		str_copy(o->address, sizeof(o->address), m->operand) != ERR_OK) {
		ask_done(&o->ask, EX_DATAERR, 0, SLICE("this is no mail address"));
		order_free(o);
		return;
	}
	str_printable(o->operator_name, sizeof(o->operator_name), m->operator_name);
	struct suppress_change change = {.is_removal = m->verb == CTL_SUPPRESS_REMOVE,
		.entry = {.address = slice_from_cstr(o->address),
			.reason = SUPPRESS_MANUAL,
			.stage = STAGE_OPERATOR,
			.text = m->text},
		.operator_name = slice_from_cstr(o->operator_name)};
	suppressor_change(all->suppressor, &change, on_changed, o);
}

struct orders *orders_new(struct service *service, struct suppressor *suppressor,
	struct journal_writer *journal, int *fd)
{
	struct orders *o = alloc_zero(1, sizeof(*o));

	o->suppressor = suppressor;
	o->journal = journal;
	list_init(&o->all);
	o->control = control_new(service->loop, ROLE_BOUNCE, service->index, fd, on_ask, o);
	return o;
}

void orders_free(struct orders **orders)
{
	struct orders *o = *orders;
	struct list *l;

	if (o == NULL) {
		return;
	}
	while ((l = list_first(&o->all)) != NULL) {
		struct order *one = CONTAINER_OF(l, struct order, link);
		suppressor_forget(o->suppressor, one);
		order_free(one);
	}
	control_free(&o->control);
	ALLOC_FREE(*orders);
}
