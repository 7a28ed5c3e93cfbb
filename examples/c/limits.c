/*
 * Limits: one sandbox asks for all the memory there is and is ended, a second forks as often as it can and is
 * refused, and a third goes on working meanwhile.
 *
 *   cc -std=c99 -Iinclude examples/c/limits.c -Ltarget/release -lsbx -Wl,-rpath,"$PWD/target/release" -o limits
 *   ./limits
 *
 * The kernel holds limits of memory for root, and in a delegated control group for everybody:
 *
 *   systemd-run --user --scope -p Delegate=yes ./limits
 *
 * Without that, this program is content with the watchdog.
 */

#include <sbx.h>
#include <stdio.h>
#include <stdlib.h>

#define MIB (1024 * 1024)

static sbx_error error = SBX_ERROR_INIT;

static void fail(void) {
    fprintf(stderr, "error %d: %s\n", error.code, error.message);
    exit(1);
}

/* A sandbox that runs a program of Python's. A bad setting is found when it is created. */
static sbx_sandbox *start(const char *program) {
    const char *command[] = {"python3", "-c", program};
    sbx_config *config = NULL;
    if (sbx_config_new(&config, &error) < 0)
        fail();
    sbx_config_set_command(config, command, 3);
    sbx_config_capture_stream(config, SBX_STDOUT, 4096, 4096);
    sbx_config_set_memory_bytes(config, 256 * MIB);
    sbx_config_set_max_processes(config, 30);
    sbx_config_set_disk_bytes(config, 16 * MIB);
    sbx_config_set_max_open_files(config, 256);
    sbx_config_set_limit_mode(config, SBX_LIMITS_WATCHDOG);
    sbx_sandbox *sandbox = NULL;
    int created = sbx_create(NULL, config, &sandbox, &error);
    sbx_config_free(config);
    if (created < 0)
        fail();
    return sandbox;
}

/* Waits for its end and shows it. */
static sbx_exit finish(sbx_sandbox *sandbox, const char *what) {
    sbx_exit exit = SBX_EXIT_INIT;
    sbx_stats stats = SBX_STATS_INIT;
    sbx_capture *capture = NULL;
    sbx_output output = SBX_OUTPUT_INIT;
    if (sbx_wait(sandbox, -1, &exit, &error) < 0 || sbx_sandbox_stats(sandbox, &stats, &error) < 0 ||
        sbx_sandbox_capture(sandbox, SBX_STDOUT, &capture, &error) < 0 ||
        sbx_capture_output(capture, &output) < 0)
        fail();
    printf("%s: reason %d, code %d after %.1f s, %.2f s of processor time", what, exit.reason, exit.code,
           (double)exit.runtime_ms / 1000, (double)stats.cpu_us / 1e6);
    if (stats.known & SBX_STATS_MEMORY_PEAK)
        printf(", %.0f MiB of memory at most", (double)stats.memory_peak_bytes / MIB);
    printf("\n%.*s", (int)output.head_length, (const char *)output.head);
    sbx_capture_free(capture);
    sbx_sandbox_free(sandbox);
    return exit;
}

int main(void) {
    sbx_sandbox *other = start("import time\nfor i in range(20): time.sleep(0.1)\nprint('  undisturbed')");
    sbx_sandbox *greedy = start("held = []\nwhile True: held.append(bytearray(b'x' * (1 << 22)))");
    sbx_sandbox *fertile = start("import os, time\n"
                                 "try:\n"
                                 "  while True:\n"
                                 "    if os.fork() == 0: time.sleep(1000)\n"
                                 "except BlockingIOError as error: print(' ', error)\n");

    int failed = finish(greedy, "all the memory").reason != SBX_EXIT_OUT_OF_MEMORY;
    failed |= finish(fertile, "forking").reason != SBX_EXIT_EXITED;
    failed |= finish(other, "something else").reason != SBX_EXIT_EXITED;
    return failed;
}
