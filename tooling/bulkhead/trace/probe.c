/* A TCG plugin that watches the engine's instructions. Trust label: TOOL.
 *
 * An instruction is the engine's if it lies where the engine is linked, or where it is loaded (before the MMU is on),
 * and if its word is the image's own there: whatever else has the same address is not counted. Everything goes into a
 * file that the other side maps, so that it survives QEMU's end, and can be read while QEMU runs.
 *
 * Source: QEMU's docs/devel/tcg-plugins.rst; the declarations below are those of version 4 of that interface (QEMU 9.2
 * and later), written down here so that no header is needed.
 */
#include <fcntl.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

typedef uint64_t plugin_id;
typedef uint32_t memory_info;
typedef struct { char *data; unsigned length; } glib_array;
typedef struct { void *handle; const char *name; const char *feature; } register_descriptor;
typedef struct {
    int type; /* log2 of the bytes */
    union { uint8_t u8; uint16_t u16; uint32_t u32; uint64_t u64; struct { uint64_t low, high; } u128; } data;
} memory_value;
enum { WITHOUT_REGISTERS, WITH_REGISTERS };
enum { READS = 1, WRITES = 2 };

extern void qemu_plugin_register_vcpu_init_cb(plugin_id, void (*)(plugin_id, unsigned));
extern void qemu_plugin_register_vcpu_tb_trans_cb(plugin_id, void (*)(plugin_id, void *));
extern void qemu_plugin_register_vcpu_insn_exec_cb(void *, void (*)(unsigned, void *), int, void *);
extern void qemu_plugin_register_vcpu_mem_cb(void *, void (*)(unsigned, memory_info, uint64_t, void *), int, int, void *);
extern size_t qemu_plugin_tb_n_insns(const void *);
extern void *qemu_plugin_tb_get_insn(const void *, size_t);
extern size_t qemu_plugin_insn_data(const void *, void *, size_t);
extern uint64_t qemu_plugin_insn_vaddr(const void *);
extern int qemu_plugin_mem_is_store(memory_info);
extern memory_value qemu_plugin_mem_get_value(memory_info);
extern glib_array *qemu_plugin_get_registers(void);
extern int qemu_plugin_read_register(void *, glib_array *);
extern glib_array *g_byte_array_new(void);
extern glib_array *g_byte_array_set_size(glib_array *, unsigned);

/* The head of the shared file; behind it three bytes for each instruction, then the records. `probe.py` has the same. */
struct head {
    uint64_t recording;    /* set by the other side */
    uint64_t count;        /* records so far, also those for which there was no room */
    uint64_t capacity;     /* records */
    uint64_t instructions; /* words of the engine's text */
    uint64_t linked, loaded;
};
struct record { uint32_t place; uint8_t kind, size, cpu, unused; uint64_t address, value; };
enum { EXECUTED, LOADED, STORED };
enum { CPUS = 8, GENERAL = 31 };

__attribute__((visibility("default"))) int qemu_plugin_version = 4;

static struct head *head;
static uint8_t *executed, *taken, *passed;
static struct record *records;
static const uint32_t *text;
static uint32_t branch[CPUS]; /* the conditional branch that this CPU executed last, plus 1 */
static void *general[CPUS][GENERAL];
static glib_array *value_of[CPUS];

static int is_conditional(uint32_t word) /* B.cond, BC.cond; CBZ, CBNZ; TBZ, TBNZ (Arm ARM DDI 0487, C4.1.93) */
{
    return (word & 0xff000000) == 0x54000000 || (word & 0x7e000000) == 0x34000000 || (word & 0x7e000000) == 0x36000000;
}

static int64_t target(uint32_t word) /* of a conditional branch, in words from itself */
{
    int bits = (word & 0x7e000000) == 0x36000000 ? 14 : 19;
    return (int64_t)((uint64_t)(word >> 5) << (64 - bits)) >> (64 - bits);
}

static int is_telling(uint32_t word) /* barriers, system instructions and registers; RET */
{
    return word >> 24 == 0xd5 || word == 0xd65f03c0;
}

static void keep(uint32_t place, int kind, int size, unsigned cpu, uint64_t address, uint64_t value)
{
    uint64_t number = __atomic_fetch_add(&head->count, 1, __ATOMIC_RELAXED);
    if (number < head->capacity)
        records[number] = (struct record){ place, kind, size, cpu, 0, address, value };
}

static uint64_t operand(unsigned cpu, uint32_t word) /* of MSR (register) and SYS: the value of Xt */
{
    unsigned number = word & 31;
    if ((word & 0xffe00000) != 0xd5000000 || (word >> 19 & 3) == 0 || number >= GENERAL || !general[cpu][number])
        return 0;
    uint64_t value = 0;
    g_byte_array_set_size(value_of[cpu], 0);
    qemu_plugin_read_register(general[cpu][number], value_of[cpu]);
    memcpy(&value, value_of[cpu]->data, sizeof value);
    return value;
}

static void on_instruction(unsigned cpu, void *data)
{
    uint32_t place = (uintptr_t)data;
    executed[place] = 1;
    if (branch[cpu]) {
        uint32_t before = branch[cpu] - 1;
        if (place == before + target(text[before]))
            taken[before] = 1;
        else if (place == before + 1)
            passed[before] = 1;
    }
    branch[cpu] = is_conditional(text[place]) ? place + 1 : 0;
    if (head->recording && is_telling(text[place]))
        keep(place, EXECUTED, 4, cpu, 0, operand(cpu, text[place]));
}

static void on_access(unsigned cpu, memory_info info, uint64_t address, void *data)
{
    if (!head->recording)
        return;
    int kind = qemu_plugin_mem_is_store(info) ? STORED : LOADED;
    memory_value value = qemu_plugin_mem_get_value(info);
    uint32_t place = (uintptr_t)data;
    if (value.type == 4) { /* a pair of registers may be one access of 16 bytes */
        keep(place, kind, 8, cpu, address, value.data.u128.low);
        keep(place, kind, 8, cpu, address + 8, value.data.u128.high);
        return;
    }
    uint64_t mask = value.type == 3 ? ~0ull : (1ull << (8 << value.type)) - 1;
    keep(place, kind, 1 << value.type, cpu, address, value.data.u64 & mask);
}

static void on_translation(plugin_id id, void *block)
{
    for (size_t number = 0; number < qemu_plugin_tb_n_insns(block); number++) {
        void *instruction = qemu_plugin_tb_get_insn(block, number);
        uint64_t address = qemu_plugin_insn_vaddr(instruction);
        uint64_t place = (address - head->linked) / 4;
        if (place >= head->instructions)
            place = (address - head->loaded) / 4;
        uint32_t word = 0;
        if (place >= head->instructions || qemu_plugin_insn_data(instruction, &word, 4) != 4 || word != text[place])
            continue;
        void *data = (void *)(uintptr_t)place;
        int registers = head->capacity ? WITH_REGISTERS : WITHOUT_REGISTERS;
        qemu_plugin_register_vcpu_insn_exec_cb(instruction, on_instruction, registers, data);
        if (head->capacity)
            qemu_plugin_register_vcpu_mem_cb(instruction, on_access, WITHOUT_REGISTERS, READS | WRITES, data);
    }
}

static void on_cpu(plugin_id id, unsigned cpu)
{
    if (cpu >= CPUS) {
        fprintf(stderr, "probe: more CPUs than the engine allows\n");
        exit(1);
    }
    value_of[cpu] = g_byte_array_new();
    glib_array *all = qemu_plugin_get_registers();
    register_descriptor *descriptors = (register_descriptor *)all->data;
    for (unsigned number = 0; number < all->length; number++) {
        char *end = NULL;
        const char *name = descriptors[number].name;
        long which = name[0] == 'x' && name[1] ? strtol(name + 1, &end, 10) : -1;
        if (which >= 0 && which < GENERAL && *end == 0)
            general[cpu][which] = descriptors[number].handle;
    }
}

static void *map_file(const char *path, int writable)
{
    int file = open(path, writable ? O_RDWR : O_RDONLY);
    struct stat facts;
    if (file < 0 || fstat(file, &facts) < 0)
        return MAP_FAILED;
    void *place = mmap(NULL, facts.st_size, PROT_READ | (writable ? PROT_WRITE : 0), MAP_SHARED, file, 0);
    close(file);
    return place;
}

/* Arguments: shared=FILE (head filled in), text=FILE (the engine's text as a flat file). */
__attribute__((visibility("default"))) int qemu_plugin_install(plugin_id id, const void *info, int argc, char **argv)
{
    void *shared = MAP_FAILED, *words = MAP_FAILED;
    for (int number = 0; number < argc; number++) {
        if (!strncmp(argv[number], "shared=", 7))
            shared = map_file(argv[number] + 7, 1);
        if (!strncmp(argv[number], "text=", 5))
            words = map_file(argv[number] + 5, 0);
    }
    if (shared == MAP_FAILED || words == MAP_FAILED) {
        fprintf(stderr, "probe: its files cannot be mapped\n");
        return 1;
    }
    head = shared;
    text = words;
    executed = (uint8_t *)(head + 1);
    taken = executed + head->instructions;
    passed = taken + head->instructions;
    size_t flags = (3 * head->instructions + 7) / 8 * 8;
    records = (struct record *)(executed + flags);
    qemu_plugin_register_vcpu_init_cb(id, on_cpu);
    qemu_plugin_register_vcpu_tb_trans_cb(id, on_translation);
    return 0;
}
