/* Sticky setters: the first bad value is kept; texts are checked. */
#include "check.h"

static void first_bad(sbx_config *config, const char *text) {
    sbx_error error = SBX_ERROR_INIT;
    sbx_sandbox *sandbox = NULL;
    CHECK(sbx_config_check(config, &error) < 0);
    CHECK(strstr(error.message, text) != NULL);
    memset(error.message, 0, sizeof error.message);
    CHECK(sbx_create(NULL, config, &sandbox, &error) < 0 && sandbox == NULL);
    CHECK(strstr(error.message, text) != NULL);
    sbx_config_free(config);
}

static sbx_config *with_command(void) {
    const char *argv[] = {"true"};
    sbx_config *config = NULL;
    CHECK(sbx_config_new(&config, NULL) == 0);
    CHECK(sbx_config_set_command(config, argv, 1) == 0);
    return config;
}

int main(void) {
    sbx_config *config = with_command();
    CHECK(sbx_config_check(config, NULL) == 0);
    CHECK(sbx_config_set_workdir(config, "relative") == SBX_EINVALID);
    CHECK(sbx_config_set_user(config, "") == SBX_EINVALID);
    CHECK(sbx_config_set_workdir(config, "/") == 0);
    first_bad(config, "\"relative\"");

    CHECK(sbx_config_new(&config, NULL) == 0); /* no command: it waits for sbx_exec */
    CHECK(sbx_config_check(config, NULL) == 0);
    CHECK(sbx_config_set_stream(config, SBX_STDOUT, SBX_STREAM_DESCRIPTOR) == 0);
    first_bad(config, "command");
    CHECK(sbx_config_new(&config, NULL) == 0);
    CHECK(sbx_config_set_secret(config, "1TOKEN", "hunter2") == SBX_EINVALID);
    first_bad(config, "1TOKEN");
    CHECK(sbx_config_new(&config, NULL) == 0);
    CHECK(sbx_config_set_tag(config, "a tag", "value") == SBX_EINVALID);
    first_bad(config, "a tag");
    CHECK(sbx_config_new(&config, NULL) == 0);
    CHECK(sbx_config_set_idle_timeout_ms(config, 0) == SBX_EINVALID);
    first_bad(config, "idle_timeout_ms");
    config = with_command();
    CHECK(sbx_config_set_hostname(config, "a\xff") == SBX_EINVALID);
    first_bad(config, "UTF-8");
    config = with_command();
    CHECK(sbx_config_set_name(config, NULL) == SBX_EINVALID);
    first_bad(config, "NULL");
    config = with_command();
    CHECK(sbx_config_set_command(config, NULL, 3) == SBX_EINVALID);
    first_bad(config, "list must not be NULL");
    config = with_command();
    CHECK(sbx_config_set_policy(config, NULL) == SBX_EHANDLE);
    first_bad(config, "policy handle is NULL");
    config = with_command();
    CHECK(sbx_config_add_port(config, 80, SBX_PORT_ENCRYPTED) == 0);
    CHECK(sbx_config_add_port(config, 80, SBX_PORT_UNENCRYPTED) == SBX_EINVALID);
    first_bad(config, "port 80");
    config = with_command();
    CHECK(sbx_config_add_port(config, 65536, SBX_PORT_H2) == SBX_EINVALID);
    first_bad(config, "65536");
    config = with_command();
    CHECK(sbx_config_add_port(config, 80, 0) == SBX_EINVALID && sbx_config_add_port(config, 80, 4) == SBX_EINVALID);
    first_bad(config, "port 80: kind 0: must be one of SBX_PORT_");
    config = with_command();
    CHECK(sbx_config_set_tunnel_rate(config, 0) == 0 && sbx_config_set_tunnel_rate(config, -1) == 0);
    CHECK(sbx_config_set_tunnel_rate(config, 1) == 0 && sbx_config_set_tunnel_rate(config, 1000000) == 0);
    CHECK(sbx_config_check(config, NULL) == 0);
    CHECK(sbx_config_set_tunnel_rate(config, 1000001) == SBX_EINVALID);
    first_bad(config, "tunnel rate 1000001");
    config = with_command();
    CHECK(sbx_config_add_mount(config, "/srv", "/a", SBX_MOUNT_READ_ONLY) == 0);
    CHECK(sbx_config_add_mount(config, "/srv", "/b", SBX_MOUNT_WRITABLE) == 0);
    CHECK(sbx_config_add_mount(config, "/srv", "/c", 2) == SBX_EINVALID);
    first_bad(config, "mount flags 0x2");
    config = with_command();
    CHECK(sbx_config_add_mount(config, "/srv", NULL, 0) == SBX_EINVALID);
    first_bad(config, "mount destination: must not be NULL");
    config = with_command();
    CHECK(sbx_config_set_timeout_ms(config, -1) == SBX_EINVALID);
    first_bad(config, "-1");

    config = with_command();
    CHECK(sbx_config_set_memory_bytes(config, (64u << 20) - 1) == SBX_EINVALID);
    CHECK(sbx_config_set_memory_bytes(config, 64u << 20) == 0);
    first_bad(config, "memory 67108863: must be from 67108864");
    config = with_command();
    CHECK(sbx_config_set_millicpus(config, 9) == SBX_EINVALID && sbx_config_set_millicpus(config, 10) == 0);
    first_bad(config, "cpu 9");
    config = with_command();
    CHECK(sbx_config_set_max_processes(config, 0) == SBX_EINVALID);
    first_bad(config, "max processes 0");
    config = with_command();
    CHECK(sbx_config_set_disk_bytes(config, 0) == SBX_EINVALID);
    first_bad(config, "disk 0");
    config = with_command();
    CHECK(sbx_config_set_max_open_files(config, 7) == SBX_EINVALID);
    first_bad(config, "max open files 7");
    config = with_command();
    CHECK(sbx_config_set_limit_mode(config, SBX_LIMITS_WATCHDOG) == 0);
    CHECK(sbx_config_check(config, NULL) == 0);
    CHECK(sbx_config_set_limit_mode(config, 2) == SBX_EINVALID);
    first_bad(config, "limit mode 2");

    sbx_policy *policy = NULL;
    CHECK(sbx_policy_new(SBX_POLICY_BLOCKED, &policy, NULL) == 0);
    config = with_command();
    CHECK(sbx_config_set_policy(config, policy) == 0);
    CHECK(sbx_config_check(config, NULL) == 0);
    CHECK(sbx_config_add_port(config, 443, SBX_PORT_ENCRYPTED) == 0);
    first_bad(config, "a blocked policy allows no ports");
    sbx_policy_free(policy);

    CHECK(sbx_policy_new(SBX_POLICY_ALLOWLIST, &policy, NULL) == 0);
    CHECK(sbx_policy_allow_cidr(policy, "10.0.0.1/8") == SBX_EINVALID);
    CHECK(sbx_policy_allow_cidr(policy, "\xc3\x28") == SBX_EINVALID); /* the first is kept, not this */
    CHECK(sbx_policy_allow_cidr(policy, "192.0.2.0/24") == 0);
    config = with_command();
    CHECK(sbx_config_set_policy(config, policy) == SBX_EINVALID);
    first_bad(config, "10.0.0.1/8");
    sbx_policy_free(policy);

    CHECK(sbx_policy_new(SBX_POLICY_ALLOWLIST, &policy, NULL) == 0);
    CHECK(sbx_policy_deny_cidr(policy, "\xc3\x28") == SBX_EINVALID);
    config = with_command();
    CHECK(sbx_config_set_policy(config, policy) == SBX_EINVALID);
    first_bad(config, "UTF-8");
    sbx_policy_free(policy);

    CHECK(sbx_policy_new(SBX_POLICY_OPEN, &policy, NULL) == 0);
    config = with_command();
    CHECK(sbx_config_set_policy(config, policy) == 0);
    CHECK(sbx_config_check(config, NULL) == 0);
    sbx_config_free(config);
    sbx_policy_free(policy);

    CHECK(strcmp(sbx_version(), "0.2.0") == 0 && sbx_abi_version() == SBX_ABI_VERSION);
    return 0;
}
