/*
 * What sandboxes need of this machine, and what to do where something is missing.
 *
 *   cc -std=c99 -Iinclude examples/c/doctor.c -Ltarget/release -lsbx -Wl,-rpath,"$PWD/target/release" -o doctor
 *   ./doctor             for people
 *   ./doctor --json      one line, for programs
 *
 * The exit status is 0 where sandboxes can be created, else 1.
 */

#include <sbx.h>
#include <stdio.h>
#include <string.h>

static const char *name_of(int status) {
    switch (status) {
    case SBX_FINDING_OK:
        return "ok";
    case SBX_FINDING_LIMITED:
        return "limited";
    case SBX_FINDING_MISSING:
        return "missing";
    default:
        return "?";
    }
}

int main(int argc, char **argv) {
    sbx_error error = SBX_ERROR_INIT;
    sbx_report *report = NULL;
    if (sbx_runtime_check(NULL, &report, &error) < 0) {
        fprintf(stderr, "error %d: %s\n", error.code, error.message);
        return 1;
    }
    int usable = sbx_report_usable(report) == 1;
    if (argc > 1 && strcmp(argv[1], "--json") == 0) {
        puts(sbx_report_json(report));
        sbx_report_free(report);
        return usable ? 0 : 1;
    }
    int count = sbx_report_count(report);
    for (int index = 0; index < count; index++) {
        sbx_finding finding = SBX_FINDING_INIT;
        if (sbx_report_finding(report, (size_t)index, &finding) < 0)
            break;
        printf("%-8s %-24s %s\n", name_of(finding.status), finding.name, finding.detail);
        if (finding.remedy[0] != '\0')
            printf("%33s -> %s\n", "", finding.remedy);
    }
    printf("\nlibsbx %s: sandboxes %s be created here\n", sbx_version(), usable ? "can" : "can't");
    sbx_report_free(report);
    return usable ? 0 : 1;
}
