/* A stand-in for the CANN runtime in host memory: what torch_npu needs to initialise, allocate,
 * copy and synchronise on a machine without an NPU. Device memory is host memory; every copy and
 * every stream is synchronous. Written from the public acl headers. The environment decides:
 *   FAKE_NPU_COUNT   devices, 1 if unset
 *   FAKE_NPU_SOC     the chip's name, Ascend910B1 if unset
 *   FAKE_NPU_MEMORY  MiB of each device, 65536 if unset; allocations beyond it fail
 */
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

typedef int aclError;
enum {
    SUCCESS = 0,
    INVALID_PARAM = 107000,
    INVALID_DEVICE = 107001,
    NO_CONTEXT = 107002,
    OUT_OF_MEMORY = 207001,
    MOST_DEVICES = 64,
    CONTEXTS = 0x1000 /* a context is this number plus its device's */
};

static __thread int current = -1;
static size_t used[MOST_DEVICES];

static long setting(const char *name, long otherwise) {
    const char *text = getenv(name);
    return text ? atol(text) : otherwise;
}

static int devices(void) {
    long count = setting("FAKE_NPU_COUNT", 1);
    return count < MOST_DEVICES ? (int)count : MOST_DEVICES;
}

static size_t capacity(void) { return (size_t)setting("FAKE_NPU_MEMORY", 65536) << 20; }

static size_t *mine(void) { return &used[current < 0 ? 0 : current]; }

/* Start and devices */

aclError aclInit(const char *config) { return SUCCESS; }
aclError aclFinalize(void) { return SUCCESS; }

aclError aclrtGetDeviceCount(uint32_t *count) {
    *count = (uint32_t)devices();
    return SUCCESS;
}

aclError aclrtSetDevice(int32_t device) {
    if (device < 0 || device >= devices()) return INVALID_DEVICE;
    current = device;
    return SUCCESS;
}

aclError aclrtResetDevice(int32_t device) { return SUCCESS; }

aclError aclrtGetDevice(int32_t *device) {
    if (current < 0) return NO_CONTEXT;
    *device = current;
    return SUCCESS;
}

aclError aclrtGetCurrentContext(void **context) {
    *context = (void *)(uintptr_t)(CONTEXTS + current);
    return SUCCESS;
}

aclError aclrtSetCurrentContext(void *context) {
    current = (int)((uintptr_t)context - CONTEXTS);
    return SUCCESS;
}

aclError aclrtGetPrimaryCtxState(int32_t device, uint32_t *flags, int32_t *active) {
    if (flags) *flags = 0;
    if (active) *active = 1;
    return SUCCESS;
}

const char *aclrtGetSocName(void) {
    const char *name = getenv("FAKE_NPU_SOC");
    return name ? name : "Ascend910B1";
}

const char *aclGetRecentErrMsg(void) { return "the stand-in for CANN has no more to say"; }

aclError aclGetDeviceCapability(uint32_t device, int info, int64_t *value) {
    *value = 24;
    return SUCCESS;
}

aclError aclGetCannAttribute(int attribute, int32_t *value) {
    *value = 1;
    return SUCCESS;
}

aclError aclrtDeviceCanAccessPeer(int32_t *can, int32_t device, int32_t peer) {
    *can = 1;
    return SUCCESS;
}

aclError aclrtDeviceGetBareTgid(int32_t *pid) {
    *pid = 1;
    return SUCCESS;
}

aclError aclrtDeviceEnablePeerAccess(int32_t peer, uint32_t flags) { return SUCCESS; }
aclError aclrtSetDeviceSatMode(int mode) { return SUCCESS; }
aclError aclrtSetOpExecuteTimeOut(uint32_t seconds) { return SUCCESS; }
aclError aclrtSetOpWaitTimeout(uint32_t seconds) { return SUCCESS; }
aclError aclrtPeekAtLastError(int level) { return SUCCESS; }
aclError aclrtGetLastError(int level) { return SUCCESS; }

/* Memory */

static void *aligned(size_t size, size_t alignment) {
    void *memory = NULL;
    return posix_memalign(&memory, alignment, size ? size : alignment) ? NULL : memory;
}

/* The owner stands in front, so that freeing counts for the device that allocated. */
typedef struct {
    size_t size;
    size_t *owner;
} Header;

enum { ALIGNMENT = 512 };

aclError aclrtMalloc(void **memory, size_t size, int policy) {
    size_t *counter = mine();
    if (*counter + size > capacity()) return OUT_OF_MEMORY;
    char *start = aligned(size + ALIGNMENT, ALIGNMENT);
    if (!start) return OUT_OF_MEMORY;
    *(Header *)start = (Header){size, counter};
    *counter += size;
    *memory = start + ALIGNMENT;
    return SUCCESS;
}

aclError aclrtMallocAlign32(void **memory, size_t size, int policy) {
    return aclrtMalloc(memory, size, policy);
}

aclError aclrtFree(void *memory) {
    if (!memory) return SUCCESS;
    Header *start = (Header *)((char *)memory - ALIGNMENT);
    *start->owner -= start->size;
    free(start);
    return SUCCESS;
}

aclError aclrtMallocHost(void **memory, size_t size) {
    *memory = aligned(size, 64);
    return *memory ? SUCCESS : OUT_OF_MEMORY;
}

aclError aclrtFreeHost(void *memory) {
    free(memory);
    return SUCCESS;
}

aclError aclrtGetMemInfo(int attribute, size_t *unused, size_t *total) {
    *total = capacity();
    *unused = *total - *mine();
    return SUCCESS;
}

aclError aclrtMemcpy(void *to, size_t room, const void *from, size_t count, int kind) {
    if (count > room) return INVALID_PARAM;
    memmove(to, from, count);
    return SUCCESS;
}

aclError aclrtMemcpyAsync(
    void *to, size_t room, const void *from, size_t count, int kind, void *stream) {
    return aclrtMemcpy(to, room, from, count, kind);
}

aclError aclrtMemset(void *memory, size_t room, int32_t value, size_t count) {
    if (count > room) return INVALID_PARAM;
    memset(memory, value, count);
    return SUCCESS;
}

aclError aclrtMemsetAsync(void *memory, size_t room, int32_t value, size_t count, void *stream) {
    return aclrtMemset(memory, room, value, count);
}
