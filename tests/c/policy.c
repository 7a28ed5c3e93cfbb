/* sbx_policy_check: what a policy says, without any sandbox. */
#include "check.h"

int main(void) {
    sbx_error error = SBX_ERROR_INIT;
    sbx_verdict verdict = SBX_VERDICT_INIT;
    sbx_policy *open = sbx_policy_new_open(), *list = sbx_policy_new_allowlist();
    CHECK(sbx_policy_check(open, "8.8.8.8", 443, 6, &verdict, &error) == 0);
    CHECK(verdict.allowed == 1 && verdict.reason == SBX_REASON_OPEN && verdict.entry == -1);
    CHECK(sbx_policy_check(open, "10.0.0.1", 443, 6, &verdict, &error) == 0);
    CHECK(verdict.allowed == 0 && verdict.reason == SBX_REASON_PROTECTED && strstr(verdict.detail, "RFC 1918") != NULL);
    CHECK(sbx_policy_check(open, "127.0.0.1", 443, 6, &verdict, &error) == 0 && verdict.reason == SBX_REASON_HOST);
    CHECK(sbx_policy_allow_cidr(list, "203.0.113.0/24") == 0 && sbx_policy_deny_cidr(list, "203.0.113.7/32") == 0);
    CHECK(sbx_policy_check(list, "203.0.113.1", 1, 17, &verdict, &error) == 0);
    CHECK(verdict.allowed == 1 && verdict.reason == SBX_REASON_LISTED && verdict.entry == 0);
    CHECK(sbx_policy_check(list, "203.0.113.7", 1, 17, &verdict, &error) == 0);
    CHECK(verdict.reason == SBX_REASON_DENIED && verdict.entry == 1);
    CHECK(sbx_policy_check(list, "203.0.113.1", 1, 1, &verdict, &error) == 0 && verdict.reason == SBX_REASON_PROTOCOL);

    /* Neighbours are for open policies to name; a private address stays closed. */
    sbx_policy *local = sbx_policy_new_open();
    CHECK(sbx_policy_allow_local_cidr(local, "0.0.0.0/0") == 0);
    CHECK(strcmp(sbx_policy_entry(local, 0), "local 0.0.0.0/0") == 0);
    CHECK(sbx_policy_check(local, "10.0.0.1", 443, 6, &verdict, &error) == 0 && verdict.reason == SBX_REASON_PROTECTED);
    CHECK(sbx_policy_check(local, "127.0.0.1", 443, 6, &verdict, &error) == 0 && verdict.reason == SBX_REASON_HOST);
    CHECK(sbx_policy_allow_local_cidr(local, "10.0.0.5/8") == SBX_EINVALID);
    CHECK(sbx_policy_allow_local_cidr(NULL, "10.0.0.0/8") == SBX_EHANDLE);
    sbx_policy_free(local);
    local = sbx_policy_new_allowlist();
    CHECK(sbx_policy_allow_local_cidr(local, "10.0.0.0/8") == SBX_EINVALID);
    sbx_policy_free(local);
    local = sbx_policy_new_open();
    CHECK(sbx_policy_dns(local) == SBX_DNS_AUTO && sbx_policy_dns(NULL) == SBX_EHANDLE);
    CHECK(sbx_policy_set_dns(local, SBX_DNS_ADDRESSES) == 0 && sbx_policy_dns(local) == SBX_DNS_ADDRESSES);
    CHECK(sbx_policy_set_dns(local, 4) == SBX_EINVALID);
    sbx_policy_free(local);
    local = sbx_policy_new_blocked();
    CHECK(sbx_policy_set_dns(local, SBX_DNS_ADDRESSES) == SBX_EINVALID);
    sbx_policy_free(local);
    CHECK(sbx_policy_check(list, "203.0.113.1", 1, 1, &verdict, &error) == 0);

    /* Bad arguments are named, and the verdict stays as it was. */
    CHECK(sbx_policy_check(list, "example.org", 1, 6, &verdict, &error) == SBX_EINVALID);
    CHECK(strstr(error.message, "example.org") != NULL && verdict.reason == SBX_REASON_PROTOCOL);
    CHECK(sbx_policy_check(list, "1.1.1.1", 0, 6, &verdict, &error) == SBX_EINVALID);
    CHECK(sbx_policy_check(list, "1.1.1.1", 1, 256, &verdict, &error) == SBX_EINVALID);
    CHECK(sbx_policy_check(list, NULL, 1, 6, &verdict, &error) == SBX_EINVALID);
    CHECK(sbx_policy_check(list, "1.1.1.1", 1, 6, NULL, &error) == SBX_EINVALID);
    CHECK(sbx_policy_check(NULL, "1.1.1.1", 1, 6, &verdict, &error) == SBX_EHANDLE);
    verdict.size = 3;
    CHECK(sbx_policy_check(list, "1.1.1.1", 1, 6, &verdict, &error) == SBX_ESIZE);
    verdict.size = 0;
    CHECK(sbx_policy_check(list, "1.1.1.1", 1, 6, &verdict, &error) == 0);
    /* A bad entry spoils the policy until it is freed. */
    CHECK(sbx_policy_allow_cidr(list, "10.0.0.5/8") == SBX_EINVALID);
    CHECK(sbx_policy_check(list, "1.1.1.1", 1, 6, &verdict, &error) == SBX_EINVALID);
    CHECK(strstr(error.message, "10.0.0.5/8") != NULL);
    /* Nor is a policy of nothing but bad entries an empty one, or none: the config that got it is spoiled too. */
    sbx_config *config = sbx_config_new();
    CHECK(sbx_config_set_policy(config, NULL) == SBX_EHANDLE && sbx_config_check(config, &error) == SBX_EHANDLE);
    sbx_config_free(config);
    config = sbx_config_new();
    const char *const command[] = {"true"};
    CHECK(sbx_config_set_command(config, command, 1) == 0 && sbx_config_check(config, &error) == 0);
    CHECK(sbx_config_set_policy(config, list) == SBX_EINVALID && sbx_config_check(config, &error) == SBX_EINVALID);
    CHECK(strstr(error.message, "10.0.0.5/8") != NULL);
    sbx_config_free(config);

    /* What was added is read back, in its order; a text lives as long as its policy. */
    CHECK(sbx_policy_mode(open) == SBX_POLICY_OPEN && sbx_policy_entry_count(open) == 0);
    CHECK(sbx_policy_mode(list) == SBX_POLICY_ALLOWLIST && sbx_policy_entry_count(list) == 2);
    const char *first = sbx_policy_entry(list, 0);
    CHECK(first != NULL && strcmp(first, "allow 203.0.113.0/24") == 0);
    CHECK(strcmp(sbx_policy_entry(list, 1), "deny 203.0.113.7/32") == 0);
    CHECK(sbx_policy_entry(list, 2) == NULL && sbx_policy_entry(list, (size_t)-1) == NULL);
    for (int index = 0; index < 1000; index++) {
        char range[32];
        snprintf(range, sizeof range, "10.%d.%d.0/24", index / 256, index % 256);
        CHECK(sbx_policy_allow_cidr(list, range) == 0 && sbx_policy_entry(list, (size_t)index + 2) != NULL);
    }
    CHECK(first == sbx_policy_entry(list, 0) && strcmp(first, "allow 203.0.113.0/24") == 0);
    CHECK(strcmp(sbx_policy_entry(list, 1001), "allow 10.3.231.0/24") == 0);
    CHECK(sbx_policy_mode(NULL) == SBX_EHANDLE && sbx_policy_entry_count(NULL) == SBX_EHANDLE);
    CHECK(sbx_policy_entry(NULL, 0) == NULL);

    /* Without a sandbox there is nothing to change or to read back. */
    uint64_t generation = 7;
    sbx_policy *copy = NULL;
    CHECK(sbx_set_policy(NULL, open, &generation, &error) == SBX_EHANDLE && generation == 7);
    CHECK(sbx_set_policy((sbx_sandbox *)open, open, NULL, NULL) == SBX_EHANDLE);
    CHECK(sbx_sandbox_policy(NULL, &copy, &generation, &error) == SBX_EHANDLE && copy == NULL && generation == 7);

    sbx_policy_free(open);
    sbx_policy_free(list);
    CHECK(sbx_policy_check(open, "1.1.1.1", 1, 6, &verdict, &error) == SBX_EHANDLE);
    return 0;
}
