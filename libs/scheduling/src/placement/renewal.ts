import type { Cluster } from "./cluster.ts";
import type { Mix } from "./mix.ts";

/** When prices and weights are renewed; parts are of the cluster's capacity unless said otherwise. */
export interface RenewalParameters {
  /** Renewed when free capacity has gone on by this part the way it went before … */
  readonly renewOnwardPart: number;
  /** … or when so much has changed hands, over all models, whichever way it went. */
  readonly renewTurnedPart: number;
  /** Either only after as many arrivals as would fill this part of the cluster. */
  readonly renewArrivalsPart: number;
  /** Renewed when arrivals have grown by this factor: the mix is still being learned. */
  readonly renewArrivalsFactor: number;
  /** Renewed when this part of the demand for GPUs has gone from some classes to others. */
  readonly renewMixPart: number;
  /** Renewals are at most this many fills of the cluster apart. */
  readonly renewFills: number;
}

/** Part of a fill between two looks at the mix: a look costs a step per class. */
const mixLookPart = 0.25;

/** So many renewals may follow on each other at the finest steps: a fill of the cluster … */
const mostCredit = 100;
/** … and each so many arrivals one more. */
const arrivalsPerCredit = 256;
/** Beyond them only the larger step counts, after so many arrivals: small clusters swing with each. */
const arrivalsUncredited = 8;

/**
 * Tells when what was computed from free capacity and mix has to be computed anew.
 *
 * What counts is the net change since the last renewal, so that a filling or draining cluster
 * renews all the way, whatever came before, while one whose load goes up and down does not:
 * against the last direction it takes the larger step.
 */
export class Renewal {
  private readonly cluster: Cluster;
  private readonly mix: Mix;
  private readonly parameters: RenewalParameters;
  private capacityMilli = Number.NaN;
  private freeMilli = 0;
  private freeByModel: readonly number[] = [];
  private filling = true;
  private arrivals = 0;
  /** Arrivals since the last renewal before a change of free capacity counts. */
  private wait = 0;
  private credit = mostCredit;
  private lookedAt = 0;
  private parts: readonly number[] = [];
  /** Arrivals that would fill an empty cluster, as of the last renewal. */
  fillArrivals = 1;

  constructor(cluster: Cluster, mix: Mix, parameters: RenewalParameters) {
    this.cluster = cluster;
    this.mix = mix;
    this.parameters = parameters;
  }

  /** True where it is time. Cheap enough for each decision. */
  due(): boolean {
    const { mix, cluster } = this;
    if (cluster.capacityMilli !== this.capacityMilli) return true;
    const arrived = mix.arrivals - this.arrivals;
    if (arrived < this.wait) return false;
    const { renewArrivalsFactor, renewFills } = this.parameters;
    if (mix.arrivals >= this.arrivals * renewArrivalsFactor) return true;
    if (arrived >= renewFills * this.fillArrivals) return true;
    return this.freeChanged(arrived) || this.mixChanged();
  }

  /** Remembers what is now as what the next renewal is judged against. */
  renewed(): void {
    const { mix, cluster, parameters } = this;
    const { supply, capacityMilli } = cluster;
    if (capacityMilli === this.capacityMilli && supply.freeMilli !== this.freeMilli) {
      this.filling = supply.freeMilli < this.freeMilli;
    }
    const earned = (mix.arrivals - this.arrivals) / arrivalsPerCredit;
    this.credit = Math.max(0, Math.min(mostCredit, this.credit + earned) - 1);
    this.capacityMilli = capacityMilli;
    this.freeMilli = supply.freeMilli;
    this.freeByModel = [...supply.freeByModel];
    this.arrivals = Math.max(1, mix.arrivals);
    this.lookedAt = mix.arrivals;
    let milliPerArrival = 0;
    for (const { shape, count } of mix.classes) {
      milliPerArrival += (count / mix.total) * shape.gpus * shape.gpuMilli;
    }
    this.fillArrivals = milliPerArrival > 0 ? capacityMilli / milliPerArrival : 1;
    this.parts = this.demandParts();
    const growth = (parameters.renewArrivalsFactor - 1) * mix.arrivals;
    this.wait = Math.max(1, Math.min(growth, parameters.renewArrivalsPart * this.fillArrivals));
  }

  private freeChanged(arrived: number): boolean {
    const { supply, capacityMilli } = this.cluster;
    const { renewOnwardPart, renewTurnedPart } = this.parameters;
    const credited = this.credit + arrived / arrivalsPerCredit >= 1;
    if (!credited && arrived < arrivalsUncredited) return false;
    const change = supply.freeMilli - this.freeMilli;
    const onward = this.filling ? -change : change;
    if (credited && onward >= renewOnwardPart * capacityMilli) return true;
    // What one model gives and another takes leaves the sum as it was.
    let changed = 0;
    for (let model = 0; model < supply.freeByModel.length; model++) {
      changed += Math.abs(supply.freeByModel[model]! - (this.freeByModel[model] ?? 0));
    }
    return (changed + Math.abs(change)) / 2 >= renewTurnedPart * capacityMilli;
  }

  private mixChanged(): boolean {
    const { mix, parameters } = this;
    if (mix.arrivals - this.lookedAt < mixLookPart * this.fillArrivals) return false;
    this.lookedAt = mix.arrivals;
    let gained = 0;
    for (const [at, part] of this.demandParts().entries()) {
      gained += Math.max(0, part - (this.parts[at] ?? 0));
    }
    return gained >= parameters.renewMixPart;
  }

  /** Each class's part of the demand for GPUs, in the order of the mix. */
  private demandParts(): number[] {
    const demands = this.mix.classes.map(({ shape, count }) => count * shape.gpus * shape.gpuMilli);
    const all = demands.reduce((sum, demand) => sum + demand, 0);
    return demands.map((demand) => (all > 0 ? demand / all : 0));
  }
}
