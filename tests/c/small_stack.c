/* Calls from a thread of 64 KiB. */
#include "check.h"
#include <pthread.h>

static void *work(void *unused) {
    (void)unused;
    const char *argv[] = {"true"};
    sbx_error error = SBX_ERROR_INIT;
    sbx_config *config = NULL;
    CHECK(sbx_config_new(&config, NULL) == 0);
    sbx_policy *policy = NULL;
    CHECK(sbx_policy_new(SBX_POLICY_ALLOWLIST, &policy, NULL) == 0);
    sbx_queue *queue = NULL;
    CHECK(sbx_config_set_command(config, argv, 1) == 0);
    CHECK(sbx_config_set_env(config, "A", "1") == 0);
    CHECK(sbx_config_add_port(config, 443, SBX_PORT_ENCRYPTED) == 0);
    CHECK(sbx_config_bind_port(config, 443, "127.0.0.1", 0) == 0);
    CHECK(sbx_policy_deny_cidr(policy, "192.0.2.0/24") == 0);
    CHECK(sbx_config_set_policy(config, policy) == 0);
    CHECK(sbx_queue_new(16, &queue, &error) == 0);
    CHECK(sbx_config_set_queue(config, queue, 1) == 0);
    CHECK(sbx_config_check(config, &error) == 0);
    CHECK(sbx_config_set_user(config, "::") == SBX_EINVALID);
    CHECK(sbx_config_check(config, &error) == SBX_EINVALID);
    sbx_queue_free(queue);
    sbx_policy_free(policy);
    sbx_config_free(config);
    return NULL;
}

int main(void) {
    pthread_attr_t attributes;
    pthread_t thread;
    CHECK(pthread_attr_init(&attributes) == 0);
    CHECK(pthread_attr_setstacksize(&attributes, 64 * 1024) == 0);
    CHECK(pthread_create(&thread, &attributes, work, NULL) == 0);
    CHECK(pthread_join(thread, NULL) == 0);
    return 0;
}
