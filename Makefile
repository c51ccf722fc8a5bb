# SPDX-License-Identifier: Apache-2.0
#
# One Makefile for the whole tree. Sources are found by wildcard: a new file needs no line
# here. What a user sets: BUILD, CC, CFLAGS, LDFLAGS, SAN, DESTDIR, prefix and its kin.

BUILD ?= build
ifeq ($(origin CC),default)
CC := gcc
endif
CLANG ?= clang
# Debian's own, which has Debian's modules, whatever else comes first in PATH.
PYTHON ?= $(if $(wildcard /usr/bin/python3),/usr/bin/python3,python3)
INSTALL ?= install

prefix ?= /usr/local
exec_prefix ?= $(prefix)
bindir ?= $(exec_prefix)/bin
libexecdir ?= $(exec_prefix)/libexec
sysconfdir ?= $(prefix)/etc
localstatedir ?= $(prefix)/var
datarootdir ?= $(prefix)/share
docdir ?= $(datarootdir)/doc/ekiden
mandir ?= $(datarootdir)/man

.DEFAULT_GOAL := all
.SUFFIXES:
.DELETE_ON_ERROR:
MAKEFLAGS += --no-builtin-rules

# ---- what there is ------------------------------------------------------------------------

COMMON := base mail io ipc queue journal db conf proc
SERVICES := master smtpd cleanup qmgr resolve smtp-out bounce
PROGRAMS := $(SERVICES) ctl

sources = $(wildcard $(1)/*.c)
objects = $(patsubst %.c,$(BUILD)/obj/%.o,$(call sources,$(1)))
# A program's objects but the one that holds only main(): what its tests are linked with.
parts = $(filter-out %/main.o,$(call objects,$(1)))

# A program whose main.c is not there yet is left out, and so are its tests.
HAVE := $(foreach p,$(PROGRAMS),$(if $(wildcard $(p)/main.c),$(p)))
HAVE_SERVICES := $(filter-out ctl,$(HAVE))

ARCHIVES := $(foreach c,$(COMMON),$(if $(call sources,common/$(c)),$(BUILD)/lib/libcommon-$(c).a))
SUPPORT_SOURCES := $(wildcard tests/support/lib/*.c)
SUPPORT_ARCHIVE := $(if $(SUPPORT_SOURCES),$(BUILD)/lib/libtestsupport.a)

UNIT_SOURCES := $(sort $(shell find tests/unit -name 'test_*.c' 2>/dev/null))
DIALOG_SOURCES := $(wildcard tests/dialog/run_*.c)
FUZZ_SOURCES := $(wildcard tests/fuzz/fuzz_*.c)
# Tools of the other tests, one program each: peers, load generators, file systems.
TOOL_SOURCES := $(wildcard tests/support/*.c tests/system/*.c tests/bench/*.c)
# Needs a library that only the set-up for tests brings.
POWER_SOURCES := $(wildcard tests/system/power/*.c)

UNIT_BINARIES := $(UNIT_SOURCES:%.c=$(BUILD)/%)
DIALOG_BINARIES := $(DIALOG_SOURCES:%.c=$(BUILD)/%)
FUZZ_BINARIES := $(FUZZ_SOURCES:%.c=$(BUILD)/%)
TOOL_BINARIES := $(TOOL_SOURCES:%.c=$(BUILD)/%)
POWER_BINARIES := $(POWER_SOURCES:%.c=$(BUILD)/%)
TEST_BINARIES := $(UNIT_BINARIES) $(DIALOG_BINARIES)

PROGRAM_BINARIES := $(HAVE_SERVICES:%=$(BUILD)/libexec/%) $(if $(filter ctl,$(HAVE)),$(BUILD)/bin/ekiden)

# ---- libraries of each program --------------------------------------------------------------
# --as-needed drops what a program does not use. A program that needs more adds it to
# LDLIBS_<program> or LDFLAGS_<program>; its unit tests are linked with the same.

LDLIBS_master := -lsystemd -lcrypto -levent_core
LDLIBS_smtpd := -lssl -lcrypto -levent_core
# libopendkim is linked statically, so that the one call by which it parses a private key can be
# answered with a key that is parsed already (cleanup/signer.c). What follows it is what it needs.
LDFLAGS_cleanup := -Wl,--wrap=PEM_read_bio_PrivateKey -Wl,--wrap=EVP_PKEY_free
LDLIBS_cleanup := -l:libopendkim.a -l:libdb-5.3.so -l:libbsd.so.0 -lresolv -llmdb -lcrypto -levent_core
LDLIBS_qmgr := -llmdb -lcrypto -levent_core
# libunbound brings the whole of libevent along: one copy of it, not two.
LDLIBS_resolve := -lunbound -levent -lidn2
LDLIBS_smtp-out := -lssl -lcrypto -levent_core
LDLIBS_bounce := -llmdb -lcrypto -levent_core
LDLIBS_ctl := -llmdb -lcrypto -levent_core
LDLIBS_ALL := -lseccomp
# What a test of common/ may need.
LDLIBS_common := -lssl -lcrypto -llmdb -levent_core -lsystemd

# ---- flags ------------------------------------------------------------------------------------

WARNINGS := -Wall -Wextra -Werror -Wshadow -Wconversion -Wstrict-prototypes -Wmissing-prototypes \
	-Wold-style-definition -Wvla -Wformat=2 -Wswitch-enum -Wcast-qual -Wwrite-strings -Wundef \
	-Wpointer-arith
LANGUAGE := -std=c17 -D_GNU_SOURCE -I. -I$(BUILD)/gen
SECTIONS := -ffunction-sections -fdata-sections

ifdef SAN
MODE_CFLAGS := -O1 -g -fno-omit-frame-pointer -fsanitize=address,undefined -fno-sanitize-recover=all
MODE_LDFLAGS := -fsanitize=address,undefined
else
MODE_CFLAGS := -O2 -g -D_FORTIFY_SOURCE=2 -fstack-protector-strong -fstack-clash-protection \
	-fcf-protection -fPIE
MODE_LDFLAGS := -pie -Wl,-z,relro,-z,now,-z,noexecstack
endif

ALL_CFLAGS = $(LANGUAGE) $(WARNINGS) $(MODE_CFLAGS) $(SECTIONS) $(CPPFLAGS) $(CFLAGS)
ALL_LDFLAGS = $(MODE_LDFLAGS) -Wl,--gc-sections -Wl,--as-needed $(LDFLAGS)
FUZZ_CFLAGS = $(LANGUAGE) $(WARNINGS) -O1 -g -fno-omit-frame-pointer \
	-fsanitize=fuzzer-no-link,address,undefined -fno-sanitize-recover=all $(SECTIONS)

# A test that needs more at its link step says so in its source: /* link: -Wl,--wrap=fsync */
link_line = $$(sed -n 's|^/\* link: \(.*\) \*/$$|\1|p' $(1))

ifdef V
quiet =
else
quiet = @printf '  %-6s %s\n' $(1) '$(2)';
endif

# ---- goals --------------------------------------------------------------------------------------

.PHONY: all programs tests setup users run demo check check-unit lint format sanitize fuzz bench install \
	uninstall clean unit-binaries fuzz-binaries FORCE

all: programs

programs: $(PROGRAM_BINARIES)

tests: programs $(TEST_BINARIES) $(TOOL_BINARIES) $(POWER_BINARIES)

unit-binaries: $(TEST_BINARIES)

fuzz-binaries: $(FUZZ_BINARIES)

# How the test runner finds the build, and builds the same again when it stages an installation.
# Behind exec, so that a signal to make reaches what runs and not a shell before it.
TEST_ENV = env EKIDEN_BUILD='$(abspath $(BUILD))' EKIDEN_SAN='$(SAN)' \
	EKIDEN_MAKE='$(MAKE) --no-print-directory -C $(CURDIR) BUILD=$(BUILD) CC=$(CC) $(if $(SAN),SAN=$(SAN))'


setup:
	@tests/setup $(if $(filter run demo,$(MAKECMDGOALS)),build,all)
	@etc/make-users

# The users of the programs; does nothing when not root.
users:
	@etc/make-users

# The programs are built by a second make because `setup' has to be done before the compiler
# is looked for, whatever -j says.
AGAIN = $(MAKE) --no-print-directory $(JOBS) BUILD='$(BUILD)' $(if $(SAN),SAN='$(SAN)')
JOBS = $(if $(filter -j% --jobserver%,$(MAKEFLAGS)),,-j$(shell nproc 2>/dev/null || echo 2))

run: setup
	@+$(AGAIN) programs
	@exec $(TEST_ENV) $(PYTHON) tests/support/demo run

demo: setup
	@+$(AGAIN) programs
	@exec $(TEST_ENV) $(PYTHON) tests/support/demo once

# Whatever happens, the last line says how many passed: a build that fails is one that failed.
check: setup
	@+$(AGAIN) tests fuzz-binaries || { echo 'failed: the build'; echo '0 passed, 1 failed'; exit 1; }
	@exec $(TEST_ENV) $(PYTHON) tests/run $(TESTFLAGS)

check-unit:
	@+$(AGAIN) unit-binaries
	@exec $(TEST_ENV) $(PYTHON) tests/run --unit $(TESTFLAGS)

sanitize: setup
	@+$(MAKE) --no-print-directory $(JOBS) BUILD='$(BUILD)-san' SAN=1 tests
	@+$(MAKE) --no-print-directory BUILD='$(BUILD)-san' SAN=1 run-san

.PHONY: run-san
run-san:
	@exec $(TEST_ENV) $(PYTHON) tests/run --san $(TESTFLAGS)

lint:
	@exec $(TEST_ENV) BUILD='$(BUILD)' tests/lint/all

format:
	@find common $(PROGRAMS) tests -name '*.[ch]' -print0 2>/dev/null | xargs -0 clang-format -i

FUZZ_SECONDS ?= 60
fuzz:
	@+$(AGAIN) fuzz-binaries
	@exec $(TEST_ENV) $(PYTHON) tests/run --fuzz $(FUZZ_SECONDS) $(TESTFLAGS)

bench:
	@+$(AGAIN) programs $(TOOL_BINARIES)
	@exec $(TEST_ENV) tests/bench/run $(BENCHFLAGS)

# Power cuts of the queue's commit protocol: as root, for as long as it takes.
CUTS ?= 1000
.PHONY: torture-power
torture-power: setup
	@+$(AGAIN) $(POWER_BINARIES)
	@exec $(TEST_ENV) tests/system/power/torture $(CUTS)

# Random kills of programs under load; and builds with faults that must be found by them.
KILLS ?= 10000
.PHONY: torture-kill torture-planted
torture-kill: setup
	@+$(AGAIN) programs
	@exec $(TEST_ENV) $(PYTHON) tests/system/torture_kill.py --kills $(KILLS)

torture-planted: setup
	@for bug in COMMIT_LATE SETTLE_EARLY; do \
		$(MAKE) --no-print-directory -j2 BUILD='$(BUILD)-planted' CFLAGS="-DBUG_$$bug" programs || exit 1; \
		if EKIDEN_BUILD='$(abspath $(BUILD))-planted' $(PYTHON) tests/system/torture_kill.py --kills 60 \
			--rate 5 --drain 40; then echo "not ok $$bug was not found"; exit 1; \
		else echo "ok $$bug turns the harness red"; fi; done

clean:
	rm -rf '$(BUILD)' '$(BUILD)-san' '$(BUILD)-planted'

# ---- installation ----------------------------------------------------------------------------

CONFIG_FILES := $(wildcard etc/*.cf)
MANUALS := $(wildcard docs/man/*.[1-8])

# What the tree's files say of places is what a build for Debian has; installed, they say their own.
PLACES = sed -e 's|/etc/ekiden|$(sysconfdir)/ekiden|g' \
	-e 's,/var/\(spool\|lib\)/ekiden,$(localstatedir)/\1/ekiden,g' \
	-e 's|@bindir@|$(bindir)|g' -e 's|@libexecdir@|$(libexecdir)|g' -e 's|@docdir@|$(docdir)|g' \
	-e 's|@sysconfdir@|$(sysconfdir)|g' -e 's|@localstatedir@|$(localstatedir)|g'
# As a shell function, put FILE TO: the file with its places filled in.
PUT = put() { $(INSTALL) -d -m 755 "$${2%/*}" && $(PLACES) "$$1" >'$(BUILD)/gen/installed' && \
	$(INSTALL) -m 644 '$(BUILD)/gen/installed' "$$2"; }

install: all
	@umask 022; $(INSTALL) -d -m 755 '$(DESTDIR)$(bindir)' '$(DESTDIR)$(libexecdir)/ekiden' \
		'$(DESTDIR)$(sysconfdir)/ekiden' '$(DESTDIR)$(docdir)' \
		'$(DESTDIR)$(localstatedir)/spool/ekiden' '$(DESTDIR)$(localstatedir)/lib/ekiden'
	@for f in $(HAVE_SERVICES); do \
		$(INSTALL) -m 755 "$(BUILD)/libexec/$$f" "$(DESTDIR)$(libexecdir)/ekiden/$$f" || exit 1; done
	@for f in $(filter $(BUILD)/bin/%,$(PROGRAM_BINARIES)); do \
		$(INSTALL) -m 755 "$$f" "$(DESTDIR)$(bindir)/$${f##*/}" || exit 1; done
	@umask 022; $(PUT); for f in $(CONFIG_FILES); do to="$(DESTDIR)$(sysconfdir)/ekiden/$${f##*/}"; \
		if [ -e "$$to" ]; then to="$$to.new"; fi; put "$$f" "$$to" || exit 1; \
		if cmp -s "$$to" "$${to%.new}" && [ "$$to" != "$${to%.new}" ]; then rm -f "$$to"; fi; done
	@umask 022; $(PUT); for f in $(MANUALS); do \
		put "$$f" "$(DESTDIR)$(mandir)/man$${f##*.}/$${f##*/}" || exit 1; done
	@$(INSTALL) -m 644 LICENSE README.md '$(DESTDIR)$(docdir)'
	@umask 022; $(PUT); to='$(DESTDIR)$(prefix)/lib'; \
	put etc/sysusers.d/ekiden.conf "$$to/sysusers.d/ekiden.conf" && \
	put etc/tmpfiles.d/ekiden.conf "$$to/tmpfiles.d/ekiden.conf" && \
	put etc/systemd/ekiden.service.in "$$to/systemd/system/ekiden.service"
	@[ -n '$(DESTDIR)' ] || etc/make-users

# The settings, the queue and the users stay: mail may wait in it.
uninstall:
	@rm -rf '$(DESTDIR)$(libexecdir)/ekiden' '$(DESTDIR)$(docdir)'
	@rm -f '$(DESTDIR)$(bindir)/ekiden' $(foreach f,$(notdir $(MANUALS)),'$(DESTDIR)$(mandir)/man$(subst .,,$(suffix $f))/$f') \
		'$(DESTDIR)$(prefix)/lib/systemd/system/ekiden.service' \
		'$(DESTDIR)$(prefix)/lib/sysusers.d/ekiden.conf' '$(DESTDIR)$(prefix)/lib/tmpfiles.d/ekiden.conf'
	@echo 'left as they are: $(DESTDIR)$(sysconfdir)/ekiden, $(DESTDIR)$(localstatedir)/spool/ekiden,' \
		'$(DESTDIR)$(localstatedir)/lib/ekiden, the users ekiden-*'

# ---- rules -----------------------------------------------------------------------------------

# Rewritten only when something changed, so that objects are built again exactly then.
define write_if_changed
	@mkdir -p '$(@D)'
	@printf '%s\n' $(1) >'$@.tmp'
	@if cmp -s '$@.tmp' '$@'; then rm -f '$@.tmp'; else mv -f '$@.tmp' '$@'; fi
endef

$(BUILD)/gen/flags: FORCE
	$(call write_if_changed,'$(CC) $(ALL_CFLAGS)' '$(CLANG) $(FUZZ_CFLAGS)')

$(BUILD)/gen/link-flags: FORCE
	$(call write_if_changed,'$(ALL_LDFLAGS)' '$(LINK_VARIABLES)')
# As texts: what each program adds, and its libraries.
LINK_VARIABLES = $(foreach p,common ALL $(PROGRAMS),$(p): $(LDFLAGS_$(p)) $(LDLIBS_$(p));)

# Where an installed relay looks by default; see install.
$(BUILD)/gen/build_paths.h: FORCE
	$(call write_if_changed,'/* SPDX-License-Identifier: Apache-2.0 */' '#ifndef BUILD_PATHS_H' \
		'#define BUILD_PATHS_H' '#define PATH_SYSCONFDIR "$(sysconfdir)"' \
		'#define PATH_LOCALSTATEDIR "$(localstatedir)"' '#endif')

GENERATED := $(BUILD)/gen/flags
# Every object waits for the generated header; its .d file says whether it is built again for it.
$(BUILD)/obj/%.o: %.c $(GENERATED) | $(BUILD)/gen/build_paths.h
	@mkdir -p '$(@D)'
	$(call quiet,CC,$<)$(CC) $(ALL_CFLAGS) -MMD -MP -c -o '$@' '$<'

$(BUILD)/fuzz-obj/%.o: %.c $(GENERATED) | $(BUILD)/gen/build_paths.h
	@mkdir -p '$(@D)'
	$(call quiet,CLANG,$<)$(CLANG) $(FUZZ_CFLAGS) -MMD -MP -c -o '$@' '$<'

# An archive is made anew: a member whose source is gone must go too. Its list of members is a
# file of its own, so that a deleted source is noticed.
define archive_rules
$(BUILD)/gen/members-$(1): FORCE
	$$(call write_if_changed,'$(2)')
$(BUILD)/lib/$(1).a: $(2) $(BUILD)/gen/members-$(1)
	@mkdir -p '$$(@D)'
	@rm -f '$$@'
	$$(call quiet,AR,$$@)ar rcsD '$$@' $(2)
endef
$(foreach c,$(COMMON),$(if $(call sources,common/$(c)),\
	$(eval $(call archive_rules,libcommon-$(c),$(call objects,common/$(c))))))
$(if $(SUPPORT_SOURCES),$(eval $(call archive_rules,libtestsupport,$(SUPPORT_SOURCES:%.c=$(BUILD)/obj/%.o))))

GROUP = -Wl,--start-group $(ARCHIVES) -Wl,--end-group

# program, binary
define program_rules
$(2): $(call objects,$(1)) $(ARCHIVES) $(BUILD)/gen/link-flags
	@mkdir -p '$$(@D)'
	$$(call quiet,LD,$$@)$$(CC) $$(ALL_LDFLAGS) $$(LDFLAGS_$(1)) -o '$$@' $(call objects,$(1)) \
		$$(GROUP) $$(LDLIBS_$(1)) $$(LDLIBS_ALL)
endef
$(foreach p,$(HAVE_SERVICES),$(eval $(call program_rules,$(p),$(BUILD)/libexec/$(p))))
$(if $(filter ctl,$(HAVE)),$(eval $(call program_rules,ctl,$(BUILD)/bin/ekiden)))

# The program whose parts a test is linked with, or nothing: tests/unit/smtpd/test_tx.c and
# tests/dialog/run_smtpd.c are smtpd's.
unit_program = $(filter $(PROGRAMS),$(word 3,$(subst /, ,$(1))))
dialog_program = $(filter $(PROGRAMS),$(patsubst tests/dialog/run_%.c,%,$(1)))
# A tool says it in its first lines: /* parts-of: cleanup */
tool_program = $(filter $(PROGRAMS),$(shell sed -n '1,5s|^/\* parts-of: *\([a-z-]*\) \*/$$|\1|p' $(1)))

# What the tests of one folder share: its sources that are no tests themselves.
helpers = $(if $(filter tests/unit/%,$(1)),$(patsubst %.c,$(BUILD)/obj/%.o,$(filter-out $(dir $(1))test_%,$(wildcard $(dir $(1))*.c))))

# source, program
define test_rules
$(BUILD)/$(1:.c=): $(BUILD)/obj/$(1:.c=.o) $(call helpers,$(1)) $(if $(2),$(call parts,$(2))) $(SUPPORT_ARCHIVE) \
	$(ARCHIVES) \
	$(BUILD)/gen/link-flags
	@mkdir -p '$$(@D)'
	$$(call quiet,LD,$$@)$$(CC) $$(ALL_LDFLAGS) $(if $(2),$$(LDFLAGS_$(2))) -o '$$@' $$< $(call helpers,$(1)) \
		$(if $(2),$(call parts,$(2))) $(SUPPORT_ARCHIVE) $$(GROUP) $$(call link_line,$(1)) \
		$(if $(2),$$(LDLIBS_$(2)),$$(LDLIBS_common)) -lcmocka $$(LDLIBS_ALL)
endef
$(foreach t,$(UNIT_SOURCES),$(eval $(call test_rules,$(t),$(call unit_program,$(t)))))
$(foreach t,$(DIALOG_SOURCES),$(eval $(call test_rules,$(t),$(call dialog_program,$(t)))))
$(foreach t,$(TOOL_SOURCES) $(POWER_SOURCES),$(eval $(call test_rules,$(t),$(call tool_program,$(t)))))

# A fuzz target is linked with objects of its own kind, all of common/ and, when its first lines
# say /* fuzz-of: smtpd */, that program's parts.
COMMON_FUZZ_OBJECTS := $(foreach c,$(COMMON),$(patsubst %.c,$(BUILD)/fuzz-obj/%.o,$(call sources,common/$(c))))
fuzz_program = $(filter $(PROGRAMS),$(shell sed -n '1,5s|^/\* fuzz-of: *\([a-z-]*\) \*/$$|\1|p' $(1)))
fuzz_parts = $(filter-out %/main.o,$(patsubst %.c,$(BUILD)/fuzz-obj/%.o,$(call sources,$(1))))

define fuzz_archive_rules
$(BUILD)/gen/members-libfuzz: FORCE
	$$(call write_if_changed,'$(COMMON_FUZZ_OBJECTS)')
$(BUILD)/lib/libfuzz.a: $(COMMON_FUZZ_OBJECTS) $(BUILD)/gen/members-libfuzz
	@mkdir -p '$$(@D)'
	@rm -f '$$@'
	$$(call quiet,AR,$$@)ar rcsD '$$@' $(COMMON_FUZZ_OBJECTS)
endef
$(eval $(fuzz_archive_rules))

define fuzz_rules
$(BUILD)/$(1:.c=): $(BUILD)/fuzz-obj/$(1:.c=.o) $(if $(2),$(call fuzz_parts,$(2))) $(BUILD)/lib/libfuzz.a \
	$(BUILD)/gen/link-flags
	@mkdir -p '$$(@D)'
	$$(call quiet,LD,$$@)$(CLANG) -fsanitize=fuzzer,address,undefined -Wl,--gc-sections \
		-Wl,--as-needed $(if $(2),$$(LDFLAGS_$(2))) -o '$$@' $$< \
		$(if $(2),$(call fuzz_parts,$(2))) $(BUILD)/lib/libfuzz.a $$(call link_line,$(1)) \
		$(if $(2),$$(LDLIBS_$(2)),$$(LDLIBS_common)) $$(LDLIBS_ALL)
endef
$(foreach t,$(FUZZ_SOURCES),$(eval $(call fuzz_rules,$(t),$(call fuzz_program,$(t)))))

FORCE:

.SECONDARY:
-include $(shell find $(BUILD)/obj $(BUILD)/fuzz-obj -name '*.d' 2>/dev/null)
