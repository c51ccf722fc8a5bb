/* SPDX-License-Identifier: Apache-2.0 */
/*
 * list: a doubly linked ring through members of the entries.
 *
 * The head is a struct list that points at itself when the list is empty; an unlinked
 * entry also points at itself, so list_remove() may be repeated.
 */
#ifndef COMMON_BASE_LIST_H
#define COMMON_BASE_LIST_H

#include <stdbool.h>
#include <stddef.h>

struct list {
	struct list *next;
	struct list *prev;
};

static inline void list_init(struct list *l)
{
	l->next = l;
	l->prev = l;
}

static inline bool list_is_empty(const struct list *l)
{
	return l->next == l;
}

static inline void list_append(struct list *head, struct list *entry)
{
	entry->prev = head->prev;
	entry->next = head;
	head->prev->next = entry;
	head->prev = entry;
}

static inline void list_prepend(struct list *head, struct list *entry)
{
	list_append(head->next, entry);
}

static inline void list_remove(struct list *entry)
{
	entry->prev->next = entry->next;
	entry->next->prev = entry->prev;
	list_init(entry);
}

/* The first entry, or null when the list is empty. */
static inline struct list *list_first(const struct list *head)
{
	/* The analyzer does not follow list_remove() through its pointers.
	 * NOLINTNEXTLINE(clang-analyzer-unix.Malloc) */
	return head->next == head ? NULL : head->next;
}

#endif
