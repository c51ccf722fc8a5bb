/* SPDX-License-Identifier: Apache-2.0 */
#include "ctl/command.h"

int main(int argc, char **argv)
{
	return command_run(argc, argv);
}
