/**
 * Interned node states. Two nodes with the same free resources share one slot, so that
 * feasibility and scores, which depend on nothing else, are computed once for both.
 *
 * A slot's GPUs stand in canonical order: by kind, then free share, free memory, tenant.
 */

/** The free resources of one node, as written to and read from the table. */
export interface StateDraft {
  schedulable: number;
  cpuMillis: number;
  memoryMib: number;
  diskMib: number;
  gpus: number;
  readonly kind: Int32Array;
  readonly freeMilli: Int32Array;
  readonly freeMib: Int32Array;
  /** Tenant on the GPU, 0 where none is named; in MIG mode, where tenants do not matter, the mask of taken slices. */
  readonly owner: Int32Array;
  /** What a scorer sees: the free share, or the free share of memory where that is less. */
  readonly gap: Int32Array;
}

/** Makes a draft for nodes of up to `mostGpus` GPUs. */
export function createStateDraft(mostGpus: number): StateDraft {
  const column = (): Int32Array => new Int32Array(mostGpus);
  return {
    schedulable: 1,
    cpuMillis: 0,
    memoryMib: 0,
    diskMib: 0,
    gpus: 0,
    kind: column(),
    freeMilli: column(),
    freeMib: column(),
    owner: column(),
    gap: column(),
  };
}

function swap(column: Int32Array, a: number, b: number): void {
  const held = column[a]!;
  column[a] = column[b]!;
  column[b] = held;
}

/** Exchanges two GPUs of a draft, all but their gaps, which follow from the rest. */
export function swapGpus(draft: StateDraft, a: number, b: number): void {
  swap(draft.kind, a, b);
  swap(draft.freeMilli, a, b);
  swap(draft.freeMib, a, b);
  swap(draft.owner, a, b);
}

function grown(column: Int32Array, length: number): Int32Array<ArrayBuffer> {
  const next = new Int32Array(length);
  next.set(column);
  return next;
}

/** Numbers of a slot in `StateTable.brief`, by their offset. */
export const briefWidth = 8;
/** Free CPU; -1 where nothing can be placed: no node is there, or none that takes new tasks. */
export const briefCpu = 0;
export const briefMemory = 1;
export const briefDisk = 2;
/** The most thousandths free on any GPU … */
export const briefWidest = 3;
/** … and GPUs that are wholly free: two quick ways to see that nothing fits. */
export const briefIdle = 4;
/** The kind of its GPUs, -1 where they differ or there are none. */
export const briefKind = 5;
/** The tenant on its GPUs that are free in part: `anyOwner` where none is, -1 where they differ. */
export const briefOwner = 6;
export const anyOwner = -2;

/** The table of live states, in columns. Slots are reused once no node is in them. */
export class StateTable {
  /** The most GPUs that a state may have. */
  readonly mostGpus: number;
  /** Slots ever used; every slot index is below it. */
  slots = 0;
  schedulable = new Int32Array(0);
  cpuMillis = new Int32Array(0);
  memoryMib = new Int32Array(0);
  diskMib = new Int32Array(0);
  gpus = new Int32Array(0);
  /** GPU `i` of a slot is at `base[slot] + i` in the GPU columns, which are as wide as needed. */
  base = new Int32Array(0);
  /** What tells of most slots whether a shape fits, side by side: a look takes one cache line. */
  brief = new Int32Array(0);
  kind = new Int32Array(0);
  freeMilli = new Int32Array(0);
  freeMib = new Int32Array(0);
  owner = new Int32Array(0);
  gap = new Int32Array(0);
  /** Nodes in the slot; 0 = the slot is free. */
  users = new Int32Array(0);
  /** Rises whenever the slot gets another content. */
  stamp = new Int32Array(0);

  private hash = new Int32Array(0);
  private next = new Int32Array(0);
  private heads = new Int32Array(16).fill(-1);
  /** Free slots by their number of GPUs: a slot keeps its width. */
  private readonly free: number[][];
  private usedGpus = 0;

  constructor(mostGpus: number) {
    this.mostGpus = Math.max(1, mostGpus);
    this.free = Array.from({ length: this.mostGpus + 1 }, () => []);
  }

  /** Takes one use of the state in `draft`; `fresh` is called when a slot gets this content. */
  acquire(draft: StateDraft, fresh: (slot: number) => void): number {
    const hash = hashOf(draft);
    const mask = this.heads.length - 1;
    for (let slot = this.heads[hash & mask]!; slot >= 0; slot = this.next[slot]!) {
      if (this.hash[slot] === hash && this.equals(slot, draft)) {
        this.users[slot]!++;
        return slot;
      }
    }
    const slot = this.free[draft.gpus]!.pop() ?? this.append(draft.gpus);
    this.write(slot, draft);
    this.hash[slot] = hash;
    this.link(slot);
    this.users[slot] = 1;
    this.stamp[slot]!++;
    fresh(slot);
    return slot;
  }

  /** Gives one use back; `emptied` is called when no node is left in the slot. */
  release(slot: number, emptied: (slot: number) => void): void {
    this.users[slot]!--;
    if (this.users[slot] !== 0) return;
    const head = this.hash[slot]! & (this.heads.length - 1);
    if (this.heads[head] === slot) this.heads[head] = this.next[slot]!;
    else {
      let before = this.heads[head]!;
      while (this.next[before] !== slot) before = this.next[before]!;
      this.next[before] = this.next[slot]!;
    }
    this.stamp[slot]!++;
    this.brief[slot * briefWidth + briefCpu] = -1;
    this.free[this.gpus[slot]!]!.push(slot);
    emptied(slot);
  }

  /** Copies a slot's state into a draft. */
  read(slot: number, draft: StateDraft): void {
    draft.schedulable = this.schedulable[slot]!;
    draft.cpuMillis = this.cpuMillis[slot]!;
    draft.memoryMib = this.memoryMib[slot]!;
    draft.diskMib = this.diskMib[slot]!;
    const gpus = this.gpus[slot]!;
    draft.gpus = gpus;
    const base = this.base[slot]!;
    for (let i = 0; i < gpus; i++) {
      draft.kind[i] = this.kind[base + i]!;
      draft.freeMilli[i] = this.freeMilli[base + i]!;
      draft.freeMib[i] = this.freeMib[base + i]!;
      draft.owner[i] = this.owner[base + i]!;
      draft.gap[i] = this.gap[base + i]!;
    }
  }

  private write(slot: number, draft: StateDraft): void {
    this.schedulable[slot] = draft.schedulable;
    this.cpuMillis[slot] = draft.cpuMillis;
    this.memoryMib[slot] = draft.memoryMib;
    this.diskMib[slot] = draft.diskMib;
    this.gpus[slot] = draft.gpus;
    const base = this.base[slot]!;
    let idle = 0;
    let widest = 0;
    let kind = draft.gpus > 0 ? draft.kind[0]! : -1;
    let owner = anyOwner;
    for (let i = 0; i < draft.gpus; i++) {
      const milli = draft.freeMilli[i]!;
      const gap = draft.gap[i]!;
      this.kind[base + i] = draft.kind[i]!;
      this.freeMilli[base + i] = milli;
      this.freeMib[base + i] = draft.freeMib[i]!;
      this.owner[base + i] = draft.owner[i]!;
      this.gap[base + i] = gap;
      if (gap >= 1000) idle++;
      if (milli > widest) widest = milli;
      if (draft.kind[i] !== kind) kind = -1;
      if (milli > 0 && milli < 1000 && draft.owner[i] !== owner) {
        owner = owner === anyOwner ? draft.owner[i]! : -1;
      }
    }
    const { brief } = this;
    const at = slot * briefWidth;
    brief[at + briefCpu] = draft.schedulable === 1 ? draft.cpuMillis : -1;
    brief[at + briefMemory] = draft.memoryMib;
    brief[at + briefDisk] = draft.diskMib;
    brief[at + briefWidest] = widest;
    brief[at + briefIdle] = idle;
    brief[at + briefKind] = kind;
    brief[at + briefOwner] = owner;
  }

  private equals(slot: number, draft: StateDraft): boolean {
    if (
      this.cpuMillis[slot] !== draft.cpuMillis ||
      this.memoryMib[slot] !== draft.memoryMib ||
      this.diskMib[slot] !== draft.diskMib ||
      this.gpus[slot] !== draft.gpus ||
      this.schedulable[slot] !== draft.schedulable
    ) {
      return false;
    }
    const base = this.base[slot]!;
    for (let i = 0; i < draft.gpus; i++) {
      if (
        this.freeMilli[base + i] !== draft.freeMilli[i] ||
        this.kind[base + i] !== draft.kind[i] ||
        this.freeMib[base + i] !== draft.freeMib[i] ||
        this.owner[base + i] !== draft.owner[i]
      ) {
        return false;
      }
    }
    return true;
  }

  private link(slot: number): void {
    const head = this.hash[slot]! & (this.heads.length - 1);
    this.next[slot] = this.heads[head]!;
    this.heads[head] = slot;
  }

  private append(gpus: number): number {
    if (this.slots === this.users.length) this.grow(Math.max(64, this.slots * 2));
    const slot = this.slots++;
    this.base[slot] = this.usedGpus;
    this.usedGpus += gpus;
    if (this.usedGpus > this.gap.length) this.widen(Math.max(256, 2 * this.usedGpus));
    return slot;
  }

  private widen(length: number): void {
    this.kind = grown(this.kind, length);
    this.freeMilli = grown(this.freeMilli, length);
    this.freeMib = grown(this.freeMib, length);
    this.owner = grown(this.owner, length);
    this.gap = grown(this.gap, length);
  }

  private grow(length: number): void {
    this.schedulable = grown(this.schedulable, length);
    this.cpuMillis = grown(this.cpuMillis, length);
    this.memoryMib = grown(this.memoryMib, length);
    this.diskMib = grown(this.diskMib, length);
    this.gpus = grown(this.gpus, length);
    this.users = grown(this.users, length);
    this.stamp = grown(this.stamp, length);
    this.hash = grown(this.hash, length);
    this.next = grown(this.next, length);
    this.base = grown(this.base, length);
    this.brief = grown(this.brief, length * briefWidth);
    this.heads = new Int32Array(length * 2).fill(-1);
    for (let slot = 0; slot < this.slots; slot++) if (this.users[slot]! > 0) this.link(slot);
  }
}

function hashOf(draft: StateDraft): number {
  let hash = Math.imul(draft.cpuMillis ^ 0x9e3779b9, 0x85ebca6b) ^ draft.schedulable;
  hash = Math.imul(hash ^ (hash >>> 15) ^ draft.memoryMib, 0xc2b2ae35);
  hash = Math.imul(hash ^ (hash >>> 13) ^ draft.diskMib, 0x27d4eb2f);
  for (let i = 0; i < draft.gpus; i++) {
    hash = Math.imul(hash ^ (hash >>> 15) ^ draft.freeMilli[i]!, 0x85ebca6b);
    hash = Math.imul(hash ^ (draft.kind[i]! << 16) ^ draft.freeMib[i]!, 0xc2b2ae35);
    hash ^= draft.owner[i]! << 7;
  }
  return hash ^ (hash >>> 16);
}
