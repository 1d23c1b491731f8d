/*
 * The only program of the test guest: its kernel starts it as init. It keeps memory whose every byte it can tell from a seed,
 * rewrites pages of it at a steady rate, and checks all of it again and again, so that a lost, stale or damaged page is seen.
 *
 *   init MEMORY_MIB DIRTY_KIB_PER_SECOND SEED counter|text|random [TICK_MS [PASS_SECONDS]]
 *
 * It prints `SEQ n` every 200 ms, `PASS n` when it has checked all of its memory once more, which it does about every second,
 * and `CORRUPT page` when a page is not what it was. A guest that went on after a migration prints the number that follows the last one before it.
 */
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <time.h>
#include <unistd.h>

enum { PAGE = 4096, MS_PER_SECOND = 1000, NS_PER_MS = 1000000 };
enum kind { COUNTER, TEXT, RANDOM };

/* Eight bytes each, without a NUL, so that a page of text is made quickly. */
static const char WORDS[16][8] = {"select  ", "update  ", "insert  ", "account ", "index   ", "table   ", "commit  ", "page    ",
                                  "branch  ", "balance ", "value   ", "where   ", "order by", "limit 1 ", "from    ", ";\n      "};

/* splitmix64, by Sebastiano Vigna (public domain): one good 64-bit number for each state. */
static uint64_t next(uint64_t *state) {
  uint64_t z = (*state += 0x9e3779b97f4a7c15u);
  z = (z ^ (z >> 30)) * 0xbf58476d1ce4e5b9u;
  z = (z ^ (z >> 27)) * 0x94d049bb133111ebu;
  return z ^ (z >> 31);
}

/* Writes what page `page` holds after `version` rewrites. */
static void fill(uint8_t *at, enum kind kind, uint64_t seed, uint64_t page, uint32_t version) {
  uint64_t state = seed ^ (page << 24) ^ (kind == COUNTER ? 0 : (uint64_t)version << 56 ^ version);
  if (kind == TEXT) {
    for (size_t n = 0; n < PAGE;)
      for (uint64_t bits = next(&state), i = 0; i < 16; i++, bits >>= 4, n += 8) memcpy(at + n, WORDS[bits & 15], 8);
    return;
  }
  for (size_t n = 0; n < PAGE; n += 8) {
    uint64_t bits = next(&state);
    memcpy(at + n, &bits, 8);
  }
  if (kind == COUNTER) memcpy(at, &version, sizeof version);
}

int main(int argc, char **argv) {
  const uint64_t tick_ms = argc > 5 ? strtoull(argv[5], NULL, 10) : 200;
  const uint64_t pass_seconds = argc > 6 ? strtoull(argv[6], NULL, 10) : 1;
  if (argc < 5 || tick_ms < 1 || tick_ms >= MS_PER_SECOND || pass_seconds < 1) {
    puts("usage: init MEMORY_MIB DIRTY_KIB_PER_SECOND SEED counter|text|random [TICK_MS [PASS_SECONDS]]");
    fflush(stdout);
    for (;;) pause();
  }
  const uint64_t pages = strtoull(argv[1], NULL, 10) * 256;
  const uint64_t dirty = strtoull(argv[2], NULL, 10) / 4;
  const uint64_t seed = strtoull(argv[3], NULL, 10) * 0x9e3779b97f4a7c15u;
  const enum kind kind = !strcmp(argv[4], "text") ? TEXT : !strcmp(argv[4], "random") ? RANDOM : COUNTER;

  uint8_t *memory = mmap(NULL, pages * PAGE, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_POPULATE, -1, 0);
  uint32_t *versions = calloc(pages, sizeof *versions);
  if (memory == MAP_FAILED || !versions) {
    puts("CORRUPT: not enough memory");
    fflush(stdout);
    for (;;) pause();
  }
  for (uint64_t page = 0; page < pages; page++) fill(memory + page * PAGE, kind, seed, page, 0);

  static uint8_t expected[PAGE];
  const uint64_t checks = pages * tick_ms / (MS_PER_SECOND * pass_seconds) + 1;
  uint64_t choice = seed, rewritten = 0, checked = 0, passes = 0;
  struct timespec begun, now;
  for (uint64_t tick = 1;; tick++) {
    clock_gettime(CLOCK_MONOTONIC, &begun);
    printf("SEQ %llu\n", (unsigned long long)tick);
    for (; rewritten < dirty * tick * tick_ms / MS_PER_SECOND; rewritten++) {
      uint64_t page = next(&choice) % pages;
      fill(memory + page * PAGE, kind, seed, page, ++versions[page]);
    }
    for (uint64_t n = 0; n < checks; n++) {
      fill(expected, kind, seed, checked, versions[checked]);
      if (memcmp(expected, memory + checked * PAGE, PAGE)) printf("CORRUPT %llu\n", (unsigned long long)checked);
      if (++checked == pages) {
        checked = 0;
        printf("PASS %llu\n", (unsigned long long)++passes);
      }
    }
    fflush(stdout);
    clock_gettime(CLOCK_MONOTONIC, &now);
    int64_t spent = (now.tv_sec - begun.tv_sec) * MS_PER_SECOND * NS_PER_MS + (now.tv_nsec - begun.tv_nsec);
    int64_t left = (int64_t)tick_ms * NS_PER_MS - spent;
    if (left > 0) nanosleep(&(struct timespec){.tv_nsec = left}, NULL);
  }
}
