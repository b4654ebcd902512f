/* Streams, events and options of the stand-in for CANN; compiled as one text after fake_acl.c. */
#include <time.h>

typedef struct {
    struct timespec when;
} Event;

/* Streams: all work is done when a call returns */

aclError aclrtCreateStream(void **stream) {
    *stream = malloc(1);
    return *stream ? SUCCESS : OUT_OF_MEMORY;
}

aclError aclrtCreateStreamWithConfig(void **stream, uint32_t priority, uint32_t flags) {
    return aclrtCreateStream(stream);
}

aclError aclrtDestroyStream(void *stream) {
    free(stream);
    return SUCCESS;
}

aclError aclrtStreamQuery(void *stream, int *status) {
    *status = 0; /* complete */
    return SUCCESS;
}

aclError aclrtDestroyStreamForce(void *stream) { return aclrtDestroyStream(stream); }
aclError aclrtSynchronizeStream(void *stream) { return SUCCESS; }
aclError aclrtSynchronizeStreamWithTimeout(void *stream, int32_t ms) { return SUCCESS; }
aclError aclrtSynchronizeDevice(void) { return SUCCESS; }
aclError aclrtSynchronizeDeviceWithTimeout(int32_t ms) { return SUCCESS; }
aclError aclrtProcessReport(int32_t ms) { return SUCCESS; }

/* Events: they keep the host's time */

aclError aclrtCreateEventWithFlag(void **event, uint32_t flags) {
    *event = calloc(1, sizeof(Event));
    return *event ? SUCCESS : OUT_OF_MEMORY;
}

aclError aclrtCreateEventExWithFlag(void **event, uint32_t flags) {
    return aclrtCreateEventWithFlag(event, flags);
}

aclError aclrtDestroyEvent(void *event) {
    free(event);
    return SUCCESS;
}

aclError aclrtRecordEvent(void *event, void *stream) {
    clock_gettime(CLOCK_MONOTONIC, &((Event *)event)->when);
    return SUCCESS;
}

aclError aclrtQueryEventStatus(void *event, int *status) {
    *status = 1; /* complete */
    return SUCCESS;
}

aclError aclrtQueryEventWaitStatus(void *event, int *status) {
    *status = 0; /* complete */
    return SUCCESS;
}

aclError aclrtEventElapsedTime(float *ms, void *start, void *end) {
    struct timespec a = ((Event *)start)->when, b = ((Event *)end)->when;
    *ms = (float)(b.tv_sec - a.tv_sec) * 1e3f + (float)(b.tv_nsec - a.tv_nsec) / 1e6f;
    return SUCCESS;
}

aclError aclrtResetEvent(void *event, void *stream) { return SUCCESS; }
aclError aclrtSynchronizeEvent(void *event) { return SUCCESS; }
aclError aclrtStreamWaitEvent(void *stream, void *event) { return SUCCESS; }

/* Options */

aclError aclSetCompileopt(int option, const char *value) { return SUCCESS; }
size_t aclGetCompileoptSize(int option) { return sizeof "disable"; }

aclError aclGetCompileopt(int option, char *value, size_t room) {
    strncpy(value, "disable", room);
    return SUCCESS;
}

aclError aclrtGetSysParamOpt(int option, int64_t *value) {
    *value = 0;
    return SUCCESS;
}

aclError aclrtCtxGetSysParamOpt(int option, int64_t *value) {
    *value = 0;
    return SUCCESS;
}

aclError aclrtSetSysParamOpt(int option, int64_t value) { return SUCCESS; }
aclError aclrtCtxSetSysParamOpt(int option, int64_t value) { return SUCCESS; }
void aclAppLog(int level, const char *function, const char *file, uint32_t line,
               const char *format, ...) {}
