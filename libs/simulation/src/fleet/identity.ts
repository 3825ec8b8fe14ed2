import { parseId, type Id, type IdPrefix } from "@fastgpu/domain/ids";

/**
 * Gives names to things as the service does. A name that is an id of the kind already stays what it is; every other
 * name gets the next number as its id, so that the same workload gets the same ids.
 */
export class Identity<P extends IdPrefix> {
  private readonly prefix: P;
  private readonly byName = new Map<string, Id<P>>();
  private next = 1;

  constructor(prefix: P) {
    this.prefix = prefix;
  }

  /** The id of a name, the same each time. */
  of(name: string): Id<P> {
    const known = this.byName.get(name);
    if (known !== undefined) return known;
    const id = parseId(this.prefix, name) ?? this.fresh();
    this.byName.set(name, id);
    return id;
  }

  /** An id of its own, for what has no name. Ids sort by the order in which they were made. */
  fresh(): Id<P> {
    // Decimal digits are Crockford characters; 26 of them beginning with 0 are a well-formed id.
    const id = parseId(this.prefix, `${this.prefix}-${String(this.next++).padStart(26, "0")}`);
    if (id === undefined) throw new Error("a number is an id");
    return id;
  }
}
