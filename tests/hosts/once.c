/*
 * once [FILTER]: creates one sandbox, says how that went, what the doctor says, and counts what is left. With "no-unshare" its own kernel
 * refuses unshare(2), as docker's default profile does.
 */
#include "self.h"
#include <linux/filter.h>
#include <linux/seccomp.h>
#include <stddef.h>
#include <sys/syscall.h>

static void refuse(unsigned call) {
    struct sock_filter filter[] = {
        BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(struct seccomp_data, nr)),
        BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, call, 0, 1),
        BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ERRNO | EPERM),
        BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ALLOW),
    };
    struct sock_fprog program = {sizeof filter / sizeof *filter, filter};
    CHECK(prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) == 0);
    CHECK(prctl(PR_SET_SECCOMP, SECCOMP_MODE_FILTER, &program) == 0);
}

int main(int argc, char **argv) {
    if (argc > 1 && strcmp(argv[1], "no-unshare") == 0)
        refuse(SYS_unshare);
    sbx_config *config = script("echo said >/tmp/file && cat /tmp/file");
    sbx_config_capture_stream(config, SBX_STDOUT, 4096, 4096);
    sbx_error error = SBX_ERROR_INIT;
    sbx_sandbox *sandbox = NULL;
    sbx_runtime *runtime = NULL;
    int made = sbx_runtime_new(NULL, &runtime, &error);
    if (made == 0)
        made = sbx_create(runtime, config, &sandbox, &error);
    if (made < 0) {
        CHECK(made == error.code && sandbox == NULL);
        printf("%d %s\n", made, error.message);
    } else {
        sbx_exit result = ended(sandbox);
        CHECK(result.reason == SBX_EXIT_EXITED && result.code == 0);
        printf("created\n");
    }
    sbx_sandbox_free(sandbox);
    sbx_runtime_free(runtime);
    sbx_report *report = NULL;
    CHECK(sbx_runtime_check(NULL, &report, &error) == 0);
    /* The kernel counts the namespaces of a sandbox that has ended until it has cleaned up. */
    for (int i = 0; i < 100 && made == 0 && !sbx_report_usable(report); i++) {
        usleep(100000);
        sbx_report_free(report);
        CHECK(sbx_runtime_check(NULL, &report, &error) == 0);
    }
    printf("the doctor: %s\n", sbx_report_usable(report) ? "usable" : "not usable");
    sbx_finding finding = SBX_FINDING_INIT;
    for (size_t i = 0; sbx_report_finding(report, i, &finding) == 0; i++)
        if (finding.status == SBX_FINDING_MISSING)
            printf("%s: %s -> %s\n", finding.name, finding.detail, finding.remedy);
    sbx_report_free(report);
    CHECK(childless());
    return 0;
}
