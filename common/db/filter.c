/* SPDX-License-Identifier: Apache-2.0 */
#include <errno.h>
#include <fcntl.h>
#include <stdatomic.h>
#include <stdint.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include "common/base/alloc.h"
#include "common/base/hash.h"
#include "common/db/filter.h"
#include "common/io/fd.h"

/*
 * A Bloom filter in which all bits of an address lie in one cache line. With a million
 * addresses, 33 bits for each, about one stranger in 30,000 is taken for one of them.
 */
#define LINE_BYTES 64u
#define LINE_BITS 512u
#define LINE_WORDS (LINE_BYTES / sizeof(uint64_t))
#define BITS_OF_ONE 7u
/* The first line is not for addresses: its first word is the flag. */
#define LINES (FILTER_BYTES / LINE_BYTES - 1)
#define READY UINT64_C(1)

struct filter {
	void *memory;
	_Atomic uint64_t *words; /* the same */
};

enum err filter_create(int *fd)
{
	int f = memfd_create("suppress-filter", MFD_CLOEXEC | MFD_ALLOW_SEALING);

	if (f < 0) {
		return err_from_errno();
	}
	if (ftruncate(f, FILTER_BYTES) != 0 ||
		fcntl(f, F_ADD_SEALS, F_SEAL_GROW | F_SEAL_SHRINK | F_SEAL_SEAL) != 0) {
		enum err e = err_from_errno();
		fd_close(&f);
		return e;
	}
	*fd = f;
	return ERR_OK;
}

enum err filter_map(int fd, bool writer, struct filter **out)
{
	struct stat st;

	if (fstat(fd, &st) != 0) {
		return err_from_errno();
	}
	if (st.st_size != (off_t)FILTER_BYTES) {
		return ERR_CORRUPT;
	}
	void *p = mmap(NULL, FILTER_BYTES, writer ? PROT_READ | PROT_WRITE : PROT_READ,
		MAP_SHARED, fd, 0);
	if (p == MAP_FAILED) {
		return err_from_errno();
	}
	struct filter *f = alloc_zero(1, sizeof(*f));
	f->memory = p;
	f->words = p;
	*out = f;
	return ERR_OK;
}

void filter_unmap(struct filter **f)
{
	if (*f != NULL) {
		(void)munmap((*f)->memory, FILTER_BYTES);
		ALLOC_FREE(*f);
	}
}

/* FNV spreads its low bits badly over the high ones. */
static uint64_t mix(uint64_t h)
{
	h = (h ^ (h >> 30)) * UINT64_C(0xbf58476d1ce4e5b9);
	h = (h ^ (h >> 27)) * UINT64_C(0x94d049bb133111eb);
	return h ^ (h >> 31);
}

struct place {
	size_t line;   /* index of its first word */
	uint64_t bits; /* nine for each bit of the line */
};

static struct place find_place(struct slice address)
{
	uint64_t h = mix(hash_stable_nocase(address));

	return (struct place){
		.line = (size_t)(1 + h % LINES) * LINE_WORDS,
		.bits = mix(h ^ UINT64_C(0x9e3779b97f4a7c15)),
	};
}

static size_t word_of(struct place *p, uint64_t *mask)
{
	unsigned bit = (unsigned)(p->bits % LINE_BITS);

	p->bits /= LINE_BITS;
	*mask = UINT64_C(1) << bit % 64;
	return p->line + bit / 64;
}

void filter_add(struct filter *f, struct slice address)
{
	struct place p = find_place(address);

	for (unsigned i = 0; i < BITS_OF_ONE; i++) {
		uint64_t mask = 0;
		size_t word = word_of(&p, &mask);
		atomic_fetch_or_explicit(&f->words[word], mask, memory_order_release);
	}
}

void filter_set_ready(struct filter *f)
{
	atomic_store_explicit(&f->words[0], READY, memory_order_release);
}

bool filter_may_have(const struct filter *f, struct slice address)
{
	struct place p = find_place(address);

	if (atomic_load_explicit(&f->words[0], memory_order_acquire) != READY) {
		return true;
	}
	for (unsigned i = 0; i < BITS_OF_ONE; i++) {
		uint64_t mask = 0;
		size_t word = word_of(&p, &mask);
		if ((atomic_load_explicit(&f->words[word], memory_order_acquire) & mask) == 0) {
			return false;
		}
	}
	return true;
}
