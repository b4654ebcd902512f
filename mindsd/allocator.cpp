/* Keeps freed blocks of large tensors for the next tensors, instead of giving them back to the
   system, which would hand out fresh pages and fill them with zeros at every call.

   torch asks its CPU allocator for every tensor's memory (c10/core/Allocator.h, a public interface).
   Ours takes the place of the usual one, passes small tensors on to it, and for large ones looks
   among the blocks that were freed: the smallest that is large enough and not a quarter too large.
   What is kept never exceeds a bound; the block that was freed first goes first. */

#include <c10/core/Allocator.h>
#include <c10/core/CPUAllocator.h>

#include <atomic>
#include <cstdlib>
#include <list>
#include <mutex>
#include <pthread.h>
#include <unordered_map>

namespace {

constexpr size_t LARGE = size_t(1) << 20; /* bytes; smaller ones are quick anyway */
constexpr size_t ALIGNMENT = 64;

struct Block {
    void *place;
    size_t size;
};

/* Made with new and never destroyed: tensors may outlive everything else at the program's end. */
std::mutex &lock = *new std::mutex;
std::list<Block> &kept = *new std::list<Block>; /* the latest freed first */
std::unordered_map<void *, size_t> &sizes = *new std::unordered_map<void *, size_t>; /* of ours */
std::atomic<size_t> bound = 0;
size_t held = 0, hits = 0, misses = 0;
c10::Allocator *usual = nullptr;

/* With the lock held: give back blocks until not more than `most` bytes are kept. */
void shrink(size_t most) {
    while (held > most) {
        Block oldest = kept.back();
        kept.pop_back();
        held -= oldest.size;
        sizes.erase(oldest.place);
        std::free(oldest.place);
    }
}

/* With the lock held: a kept block for `size` bytes, or null. */
void *reuse(size_t size) {
    auto best = kept.end();
    for (auto own = kept.begin(); own != kept.end(); ++own)
        if (own->size >= size && own->size - size <= size / 4 &&
            (best == kept.end() || own->size < best->size))
            best = own;
    if (best == kept.end())
        return nullptr;
    void *place = best->place;
    held -= best->size;
    kept.erase(best);
    return place;
}

void give_back(void *place) {
    std::unique_lock<std::mutex> guard(lock);
    auto found = sizes.find(place);
    if (found == sizes.end()) { /* a small one */
        guard.unlock();
        return usual->raw_deallocate(place);
    }
    kept.push_front({place, found->second});
    held += found->second;
    shrink(bound);
}

void *take(size_t size) {
    std::lock_guard<std::mutex> guard(lock);
    if (void *place = reuse(size)) {
        hits++;
        return place;
    }
    misses++;
    void *place = nullptr;
    if (posix_memalign(&place, ALIGNMENT, size)) { /* memory is short: without ours, perhaps */
        shrink(0);
        if (posix_memalign(&place, ALIGNMENT, size))
            return nullptr;
    }
    sizes[place] = size;
    return place;
}

struct Keeping final : c10::Allocator {
    c10::DataPtr allocate(size_t size) override {
        void *place = size < LARGE || !bound ? nullptr : take(size);
        if (!place) /* small, or refused: it says so in torch's own words */
            return usual->allocate(size);
        return {place, place, &give_back, c10::Device(c10::DeviceType::CPU)};
    }
    c10::DeleterFnPtr raw_deleter() const override { return &give_back; }
    void copy_data(void *to, const void *from, size_t count) const override {
        default_copy_data(to, from, count);
    }
};

Keeping &keeping = *new Keeping;

/* A child that is forked while another thread holds the lock would wait for it for ever. */
[[maybe_unused]] const int forks =
    pthread_atfork([] { lock.lock(); }, [] { lock.unlock(); }, [] { lock.unlock(); });

} // namespace

/* Keep up to `most` bytes from now on; 0: as it was, and nothing is kept. Blocks that live then are
   freed when their tensors are. */
extern "C" void keep(size_t most) {
    std::lock_guard<std::mutex> guard(lock);
    c10::Allocator *present = c10::GetCPUAllocator();
    bound = most;
    if (most && present != &keeping) {
        usual = present;
        c10::SetCPUAllocator(&keeping, 255);
    } else if (!most && present == &keeping) {
        c10::SetCPUAllocator(usual, 255);
    }
    shrink(bound);
}

/* Bytes kept now, tensors that got a kept block, tensors that got a fresh one. */
extern "C" void counts(size_t *found) {
    std::lock_guard<std::mutex> guard(lock);
    found[0] = held;
    found[1] = hits;
    found[2] = misses;
}
