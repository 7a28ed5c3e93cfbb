/* sbx_policy_check: what a policy says, without any sandbox. */
#include "check.h"

int main(void) {
    sbx_error error = SBX_ERROR_INIT;
    sbx_verdict verdict = SBX_VERDICT_INIT;
    sbx_policy_summary said = SBX_POLICY_SUMMARY_INIT;
    sbx_policy *open = NULL, *list = NULL, *none = NULL;
    CHECK(sbx_policy_new(SBX_POLICY_OPEN, &open, &error) == 0 && sbx_policy_new(SBX_POLICY_ALLOWLIST, &list, NULL) == 0);
    /* A policy names its mode: there is no default that zeroed memory could stand for. */
    CHECK(sbx_policy_new(0, &none, &error) == SBX_EINVALID && none == NULL && strstr(error.message, "policy mode 0"));
    CHECK(sbx_policy_new(4, &none, NULL) == SBX_EINVALID && sbx_policy_new(-1, &none, NULL) == SBX_EINVALID);
    CHECK(sbx_policy_new(SBX_POLICY_OPEN, NULL, &error) == SBX_EINVALID);
    CHECK(strcmp(error.message, "policy: must not be NULL") == 0 && none == NULL);
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
    sbx_policy *local = NULL;
    CHECK(sbx_policy_new(SBX_POLICY_OPEN, &local, NULL) == 0);
    CHECK(sbx_policy_allow_local_cidr(local, "0.0.0.0/0") == 0);
    CHECK(strcmp(sbx_policy_entry(local, 0), "local 0.0.0.0/0") == 0);
    CHECK(sbx_policy_check(local, "10.0.0.1", 443, 6, &verdict, &error) == 0 && verdict.reason == SBX_REASON_PROTECTED);
    CHECK(sbx_policy_check(local, "127.0.0.1", 443, 6, &verdict, &error) == 0 && verdict.reason == SBX_REASON_HOST);
    CHECK(sbx_policy_allow_local_cidr(local, "10.0.0.5/8") == SBX_EINVALID);
    CHECK(sbx_policy_allow_local_cidr(NULL, "10.0.0.0/8") == SBX_EHANDLE);
    sbx_policy_free(local);
    CHECK(sbx_policy_new(SBX_POLICY_ALLOWLIST, &local, NULL) == 0);
    CHECK(sbx_policy_allow_local_cidr(local, "10.0.0.0/8") == SBX_EINVALID);
    sbx_policy_free(local);
    CHECK(sbx_policy_new(SBX_POLICY_OPEN, &local, NULL) == 0);
    CHECK(sbx_policy_info(local, &said) == 0 && said.dns == SBX_DNS_AUTO);
    CHECK(sbx_policy_set_dns(local, SBX_DNS_ADDRESSES) == 0);
    CHECK(sbx_policy_info(local, &said) == 0 && said.dns == SBX_DNS_ADDRESSES);
    CHECK(sbx_policy_set_dns(local, 4) == SBX_EINVALID);
    sbx_policy_free(local);
    CHECK(sbx_policy_new(SBX_POLICY_BLOCKED, &local, NULL) == 0);
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
    sbx_config *config = NULL;
    CHECK(sbx_config_new(&config, NULL) == 0);
    CHECK(sbx_config_set_policy(config, NULL) == SBX_EHANDLE && sbx_config_check(config, &error) == SBX_EHANDLE);
    sbx_config_free(config);
    CHECK(sbx_config_new(&config, NULL) == 0);
    const char *const command[] = {"true"};
    CHECK(sbx_config_set_command(config, command, 1) == 0 && sbx_config_check(config, &error) == 0);
    CHECK(sbx_config_set_policy(config, list) == SBX_EINVALID && sbx_config_check(config, &error) == SBX_EINVALID);
    CHECK(strstr(error.message, "10.0.0.5/8") != NULL);
    sbx_config_free(config);

    /* What was added is read back, in its order; a text lives as long as its policy. */
    CHECK(sbx_policy_info(open, &said) == 0 && said.mode == SBX_POLICY_OPEN && said.entry_count == 0);
    CHECK(sbx_policy_info(list, &said) == 0 && said.mode == SBX_POLICY_ALLOWLIST && said.entry_count == 2);
    CHECK(said.domain_port_count == 0 && sbx_policy_domain_port(list, 0) == SBX_ENOTFOUND);
    CHECK(sbx_policy_add_domain_port(list, 9443) == 0 && sbx_policy_add_domain_port(list, 8443) == 0);
    CHECK(sbx_policy_add_domain_port(list, 443) == 0 && sbx_policy_add_domain_port(list, 8443) == 0);
    CHECK(sbx_policy_info(list, &said) == 0 && said.domain_port_count == 2);
    CHECK(sbx_policy_domain_port(list, 0) == 8443 && sbx_policy_domain_port(list, 1) == 9443);
    CHECK(sbx_policy_domain_port(list, 2) == SBX_ENOTFOUND && sbx_policy_domain_port(NULL, 0) == SBX_EHANDLE);
    /* A shorter struct than the first is none, and what failed leaves it as it was. */
    said.size = sizeof said - 1;
    CHECK(sbx_policy_info(open, &said) == SBX_ESIZE && said.domain_port_count == 2);
    said.size = 0;
    CHECK(sbx_policy_info(open, &said) == 0 && said.size == 0 && said.domain_port_count == 0);
    CHECK(sbx_policy_info(open, NULL) == SBX_EINVALID);
    CHECK(sbx_policy_info((const sbx_policy *)&said, &said) == SBX_EHANDLE);
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
    CHECK(sbx_policy_info(NULL, &said) == SBX_EHANDLE);
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
