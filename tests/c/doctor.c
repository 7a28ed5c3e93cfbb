/* The doctor for hosts that must not block: begun, told by an event, read afterwards. */
#include "check.h"
#include <errno.h>
#include <poll.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

static void next(sbx_queue *queue, int bell, sbx_event *event) {
    char bytes[64];
    struct pollfd wait = {.fd = bell, .events = POLLIN};
    while (sbx_queue_next(queue, event, NULL) == 0) {
        int ready = poll(&wait, 1, 60000);
        CHECK(ready == 1 || (ready == -1 && errno == EINTR));
        if (ready == 1)
            CHECK(read(bell, bytes, sizeof bytes) > 0);
    }
}

int main(void) {
    sbx_error error = SBX_ERROR_INIT;
    sbx_event event = SBX_EVENT_INIT;
    sbx_queue *queue = NULL;
    sbx_operation *check = NULL, *many[64];
    sbx_report *report = NULL, *waited = NULL;
    CHECK(sbx_queue_new(16, &queue, &error) == 0);
    int bell = sbx_queue_open_fd(queue, &error);
    CHECK(bell >= 0);

    CHECK(sbx_runtime_check_begin(NULL, queue, 71, &check, &error) == 0 && check != NULL);
    next(queue, bell, &event);
    CHECK(event.kind == SBX_EVENT_CHECKED && event.cookie == 71 && event.code == 0);
    CHECK(sbx_queue_next(queue, &event, NULL) == 0);
    CHECK(sbx_operation_wait(check, 0, &error) == 0 && sbx_operation_report(check, &report, &error) == 0);
    sbx_operation_free(check);
    /* The same as from the form that waits. */
    CHECK(sbx_runtime_check(NULL, &waited, &error) == 0);
    CHECK(sbx_report_count(report) > 5 && sbx_report_count(report) == sbx_report_count(waited));
    CHECK(sbx_report_usable(report) == sbx_report_usable(waited));
    CHECK(event.value[0] == (uint64_t)sbx_report_usable(report));
    sbx_finding finding = SBX_FINDING_INIT, same = SBX_FINDING_INIT;
    for (int i = 0; i < sbx_report_count(report); i++) {
        CHECK(sbx_report_finding(report, i, &finding) == 0 && sbx_report_finding(waited, i, &same) == 0);
        CHECK(strcmp(finding.name, same.name) == 0 && finding.status == same.status);
        CHECK(finding.status >= SBX_FINDING_OK && finding.status <= SBX_FINDING_MISSING);
        CHECK(finding.detail != NULL && finding.remedy != NULL);
    }
    /* The same for programs. */
    const char *json = sbx_report_json(report);
    CHECK(json != NULL && json[0] == '{' && strchr(json, '\n') == NULL && strstr(json, "\"findings\":[") != NULL);
    CHECK(strstr(json, sbx_report_usable(report) ? "\"usable\":true" : "\"usable\":false") != NULL);
    CHECK(strstr(json, finding.name) != NULL && strstr(json, sbx_version()) != NULL);
    CHECK(sbx_report_json(NULL) == NULL);
    const char *last = finding.name;
    CHECK(sbx_report_finding(report, (size_t)sbx_report_count(report), &finding) == SBX_ENOTFOUND);
    CHECK(sbx_report_finding(report, (size_t)-1, &finding) == SBX_ENOTFOUND && finding.name == last);
    CHECK(sbx_report_finding(report, 0, NULL) == SBX_EINVALID && sbx_report_finding(NULL, 0, &finding) == SBX_EHANDLE);
    finding.size = 7;
    CHECK(sbx_report_finding(report, 0, &finding) == SBX_ESIZE);
    sbx_report_free(waited);
    sbx_report_free(report);

    /* A burst is bounded; one that is freed meanwhile has its event all the same. */
    int begun = 0, code = 0;
    while (begun < 64 && (code = sbx_runtime_check_begin(NULL, queue, begun, &many[begun], &error)) == 0)
        begun++;
    CHECK(begun >= 8 && (begun == 64 || code == SBX_ELIMIT));
    for (int i = 0; i < begun; i++) {
        code = sbx_operation_report(many[i], &report, &error);
        CHECK(code == SBX_ESTATE || code == 0);
        if (code == 0)
            sbx_report_free(report);
        sbx_operation_free(many[i]);
    }
    unsigned long long seen = 0;
    for (int i = 0; i < begun; i++) {
        next(queue, bell, &event);
        CHECK(event.kind == SBX_EVENT_CHECKED && event.cookie < 64 && !(seen >> event.cookie & 1));
        CHECK(event.code == 0 || event.code == SBX_ECLOSED);
        seen |= 1ULL << event.cookie;
    }
    sbx_queue_free(queue);
    CHECK(sbx_runtime_check_begin(NULL, queue, 1, &check, &error) == SBX_EHANDLE);
    CHECK(close(bell) == 0);
    return 0;
}
