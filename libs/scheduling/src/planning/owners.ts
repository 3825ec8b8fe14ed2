import type { OrgId, ProjectId } from "@fastgpu/domain/ids";
import type { PlanQueue } from "../plan.ts";
import { coresOnly, createQueueTree, type Owner, type QueueTree } from "./queues.ts";

/** An owner, once for everything of its. */
interface OwnerRef extends Owner {
  readonly number: number;
}

/**
 * Owners of tasks and leases by number. Kept from plan to plan: the owner of an object that is known already costs one
 * look. The numbers decide nothing.
 */
export class Owners {
  size = 0;
  private readonly refs = new WeakMap<object, OwnerRef>();
  private readonly byName = new Map<OrgId, Map<ProjectId, Map<string, OwnerRef>>>();

  /** The owner of a task, a lease or a wish. */
  of(item: Owner): OwnerRef {
    let ref = this.refs.get(item);
    if (ref === undefined) this.refs.set(item, (ref = this.find(item)));
    return ref;
  }

  private find({ org, project, user }: Owner): OwnerRef {
    let projects = this.byName.get(org);
    if (projects === undefined) this.byName.set(org, (projects = new Map()));
    let users = projects.get(project);
    if (users === undefined) projects.set(project, (users = new Map()));
    let ref = users.get(user);
    if (ref === undefined) users.set(user, (ref = { org, project, user, number: this.size++ }));
    return ref;
  }
}

/** Whoever runs, waits or is wanted in one plan: what the tree of queues is made of. */
export class Party {
  private readonly owners: Owners;
  /** What each runs and wants without GPUs, by number. */
  private readonly spare: number[] = [];
  private readonly there: OwnerRef[] = [];

  constructor(owners: Owners) {
    this.owners = owners;
  }

  /** Adds something of an owner's, with its size where it has no GPUs. */
  add(item: Owner, spareMilli: number): void {
    const ref = this.owners.of(item);
    const known = this.spare[ref.number];
    if (known === undefined) this.there.push(ref);
    this.spare[ref.number] = (known ?? 0) + spareMilli;
  }

  /** The tree of their queues. */
  tree(queues: readonly PlanQueue[]): QueueTree {
    const wanted = this.there.map((owner) => ({
      owner,
      gpus: 0,
      milli: this.spare[owner.number]!,
    }));
    const tree = createQueueTree(this.there, { queues, spare: coresOnly(queues, wanted) });
    const leaves: number[] = [];
    for (const owner of this.there) leaves[owner.number] = tree.leafOf(owner);
    return { ...tree, leafOf: (item) => leaves[this.owners.of(item).number] ?? tree.leafOf(item) };
  }
}
