/* Wrong handles are errors that say what is wrong, and never crashes. */
#include "check.h"

static void refused(const void *handle, const char *why) {
    sbx_error error = SBX_ERROR_INIT;
    CHECK(sbx_config_check((const sbx_config *)handle, &error) == SBX_EHANDLE);
    CHECK(error.code == SBX_EHANDLE);
    CHECK(strstr(error.message, why) != NULL);
    CHECK(sbx_config_set_workdir((sbx_config *)(size_t)handle, "/") == SBX_EHANDLE);
}

int main(void) {
    sbx_config *config = NULL;
    CHECK(sbx_config_new(&config, NULL) == 0);
    sbx_policy *policy = NULL;
    CHECK(sbx_policy_new(SBX_POLICY_ALLOWLIST, &policy, NULL) == 0);
    long local = 0;
    char *heap = malloc(64);
    CHECK(config != NULL && policy != NULL && heap != NULL);
    refused(NULL, "NULL");
    refused(policy, "is a policy, not a config");
    refused(&local, "not one of this copy");
    refused(heap, "not one of this copy");
    refused((char *)config + 1, "not one of this copy");
    refused((const void *)1, "not one of this copy");
    free(heap);

    sbx_policy_free((sbx_policy *)config); /* a wrong kind frees nothing */
    CHECK(sbx_config_set_workdir(config, "/") == 0);
    CHECK(*(volatile char *)config == 0); /* what a collector may do */
    sbx_config_free(config);
    refused(config, "was freed");
    sbx_config_free(config);
    sbx_config_free(NULL);
    sbx_policy_free(policy);
    sbx_policy_free(policy);

    sbx_queue_free(NULL);
    sbx_report_free(NULL);
    sbx_runtime_free(NULL);
    sbx_sandbox_free(NULL);
    sbx_sandbox_list_free(NULL);
    sbx_capture_free(NULL);
    sbx_tunnel_map_free(NULL);
    CHECK(sbx_sandbox_id(NULL) == NULL && sbx_sandbox_name(NULL) == NULL);
    CHECK(sbx_sandbox_state(NULL) == SBX_EHANDLE && sbx_terminate(NULL, NULL) == SBX_EHANDLE);
    CHECK(sbx_wait(NULL, 0, NULL, NULL) == SBX_EHANDLE && sbx_connect(NULL, 80, NULL) == SBX_EHANDLE);
    CHECK(sbx_tunnel_map_url(NULL, 80) == NULL && sbx_tunnel_map_count(NULL) == SBX_EHANDLE);
    sbx_tunnel tunnel = SBX_TUNNEL_INIT;
    CHECK(sbx_tunnel_map_tunnel(NULL, 0, &tunnel) == SBX_EHANDLE && tunnel.host == NULL);
    sbx_sandbox_entry entry = SBX_SANDBOX_ENTRY_INIT;
    CHECK(sbx_sandbox_list_entry(NULL, 0, &entry) == SBX_EHANDLE && sbx_sandbox_list_count(NULL) == SBX_EHANDLE);
    sbx_sandbox_list *list = NULL;
    CHECK(sbx_runtime_sandboxes(NULL, &list, NULL) == 0 && sbx_sandbox_list_count(list) == 0);
    CHECK(sbx_sandbox_list_entry(list, 0, &entry) == SBX_ENOTFOUND && entry.id == NULL);
    CHECK(sbx_sandbox_list_entry(list, 0, NULL) == SBX_EINVALID);
    sbx_sandbox_list_free(list);
    CHECK(sbx_queue_new(1, NULL, NULL) == SBX_EINVALID);
    CHECK(sbx_create(NULL, NULL, NULL, NULL) == SBX_EINVALID);
    sbx_sandbox *sandbox = (sbx_sandbox *)&local;
    CHECK(sbx_create(NULL, NULL, &sandbox, NULL) == SBX_EHANDLE && sandbox == (sbx_sandbox *)&local);

    sbx_config *before = NULL;
    for (int i = 0; i < 1000000; i++) {
        CHECK(sbx_config_new(&config, NULL) == 0);
        CHECK(config != NULL && config != before);
        before = config;
        sbx_config_free(config);
    }
    return 0;
}
