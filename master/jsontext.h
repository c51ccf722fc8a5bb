/* SPDX-License-Identifier: Apache-2.0 */
/* jsontext: whether a text from a program is what it should be before it is shown to others. */
#ifndef MASTER_JSONTEXT_H
#define MASTER_JSONTEXT_H

#include <stdbool.h>

#include "common/base/slice.h"

#define JSONTEXT_DEPTH_MAX 32u

/* One JSON object (RFC 8259) on one line, nested no deeper than JSONTEXT_DEPTH_MAX. Does not
 * look into UTF-8. */
bool jsontext_is_object(struct slice text);

#endif
