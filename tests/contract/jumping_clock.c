/*
 * Times are monotonic, and certificates outlive a clock that is wrong: argv[1] is the file in which libfaketime, which
 * is loaded before us, finds by how much CLOCK_REALTIME is off.
 */
#include "host.h"
#include <sys/syscall.h>

#define LIFETIME 2000

static const char *file, *certificate;

/* Writes a file as a whole, so that who reads it at any time finds what was or what is. */
static void replace(const char *path, const char *text) {
    char new[4096];
    snprintf(new, sizeof new, "%s.new", path);
    FILE *written = fopen(new, "we");
    CHECK(written != NULL && fputs(text, written) >= 0 && fclose(written) == 0 && rename(new, path) == 0);
}

/* The clock as the kernel has it, whatever is loaded. */
static long long milliseconds(clockid_t clock) {
    struct timespec time;
    CHECK(syscall(SYS_clock_gettime, clock, &time) == 0);
    return time.tv_sec * 1000LL + time.tv_nsec / 1000000;
}

static void jump(const char *by, long long days) {
    struct timespec time;
    replace(file, by);
    CHECK(clock_gettime(CLOCK_REALTIME, &time) == 0);
    /* Without this everything below would hold of no jump at all. */
    CHECK(llabs(time.tv_sec - milliseconds(CLOCK_REALTIME) / 1000 - days * 24 * 3600) < 60);
    CHECK(clock_gettime(CLOCK_MONOTONIC, &time) == 0);
    CHECK(llabs(time.tv_sec - milliseconds(CLOCK_MONOTONIC) / 1000) < 60);
}

/* A client whose clock is right takes the certificate of a runtime and a sandbox made while ours is wrong. */
static void certify(void) {
    char command[8192];
    sbx_runtime *runtime = NULL;
    sbx_config *config = script("exec sleep 1000");
    sbx_sandbox *sandbox = NULL;
    sbx_tunnel_map *tunnels = NULL;
    CHECK(sbx_config_add_port(config, 8000, SBX_PORT_ENCRYPTED) == 0);
    OK(sbx_runtime_new(NULL, &runtime, &error));
    OK(sbx_create(runtime, config, &sandbox, &error));
    OK(sbx_tunnels(sandbox, PATIENCE, &tunnels, &error));
    replace(certificate, sbx_tunnel_map_ca_pem(tunnels, 8000));
    snprintf(command, sizeof command,
             "env -u LD_PRELOAD openssl s_client -connect 127.0.0.1:%d -verify_return_error -verify_ip 127.0.0.1 "
             "-CAfile '%s' </dev/null >/dev/null 2>&1",
             port_of(tunnels, 8000), certificate);
    CHECK(system(command) == 0);
    sbx_tunnel_map_free(tunnels);
    sbx_sandbox_free(sandbox);
    sbx_config_free(config);
    sbx_runtime_free(runtime);
}

/* A sandbox whose life the clock's jump falls into lives as long as it was to. */
static void live(const char *by, long long days) {
    sbx_config *config = script("exec sleep 1000");
    sbx_sandbox *sandbox = NULL;
    CHECK(sbx_config_set_timeout_ms(config, LIFETIME) == 0);
    jump("+0", 0);
    long long begun = milliseconds(CLOCK_MONOTONIC);
    OK(sbx_create(NULL, config, &sandbox, &error));
    jump(by, days);
    sbx_exit result = ended(sandbox);
    long long took = milliseconds(CLOCK_MONOTONIC) - begun;
    CHECK(result.reason == SBX_EXIT_TIMED_OUT && result.code == 124);
    CHECK(took >= LIFETIME && took < PATIENCE);
    CHECK(result.runtime_ms >= LIFETIME && result.runtime_ms <= took);
    sbx_sandbox_free(sandbox);
    sbx_config_free(config);
}

int main(int argc, char **argv) {
    CHECK(argc == 3);
    file = argv[1];
    certificate = argv[2];
    live("+180d", 180);
    certify();
    live("-180d", -180);
    certify();
    return 0;
}
