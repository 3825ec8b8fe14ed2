/** The one source of time. Durable times are the database's: adapters keep this clock synchronised to it. */
export interface Clock {
  /** Milliseconds since the Unix epoch, an integer. */
  nowMs(): number;
  /** How far off it may be, in milliseconds; a clock without it is exact by definition (tests, simulation). */
  uncertaintyMs?(): number;
}
