/** The stated limits of every FastGPU server, as docs/limits.md lists them. */
export const limits = {
  /** Greatest size of one message, in bytes. */
  messageBytes: 4 * 1024 * 1024,
  /** Size at which the transport itself cuts a message off, in bytes; between the two a refusal carries details. */
  transportMessageBytes: 16 * 1024 * 1024,
  /** Greatest size of all headers of a call, in bytes. */
  headerBytes: 64 * 1024,
  /** Calls that one connection to the gateway may have open at once. */
  concurrentStreams: 1_000,
  /** Calls that one connection to a service may have open at once: the gateway brings those of all its callers. */
  serviceConcurrentStreams: 20_000,
  /** Calls that a service may have open at once, over all connections. */
  openCalls: 20_000,
  /** Bytes that may be on their way before the receiver has taken any, per call. */
  flowWindowBytes: 1024 * 1024,
  /** Longest deadline of a unary call, in milliseconds; one without a deadline gets this one. */
  unaryDeadlineMs: 60_000,
  /** Interval of keepalive pings on an idle connection, in milliseconds. */
  keepaliveMs: 20_000,
  /** Time after which an unanswered ping ends the connection, in milliseconds. */
  keepaliveTimeoutMs: 10_000,
  /** Longest path of a unix socket that Linux takes, in bytes. */
  socketPathBytes: 107,
} as const;
