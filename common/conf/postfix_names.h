/* SPDX-License-Identifier: Apache-2.0 */
/*
 * postfix_names: the parameters of Postfix (3.7, and later ones that a relay may set), so that
 * a copied main.cf is told from one with a typing error.
 */
#ifndef COMMON_CONF_POSTFIX_NAMES_H
#define COMMON_CONF_POSTFIX_NAMES_H

#include "common/base/slice.h"

enum postfix_name {
	POSTFIX_NAME_NONE,
	POSTFIX_NAME_KNOWN, /* a parameter there; ignoring it here may matter */
	POSTFIX_NAME_IDLE   /* a parameter there that has no meaning for a relay */
};
enum postfix_name postfix_name_find(struct slice name);

#endif
