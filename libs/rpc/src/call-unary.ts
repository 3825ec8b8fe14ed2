import type { DescMessage, DescMethod, MessageInitShape } from "@bufbuild/protobuf";
import { MethodOptions_IdempotencyLevel as Idempotency } from "@bufbuild/protobuf/wkt";
import { Fault } from "@fastgpu/domain/fault";
import { sleep } from "@fastgpu/lifecycle/signals";
import { decode, encode, pathOf } from "./adapter.ts";
import { faultOfTransport, onAbort, prepareCall } from "./outgoing.ts";
import type { OutgoingCall, PreparedCall } from "./outgoing.ts";

type Init = MessageInitShape<DescMessage>;

/** Attempts of one call, the first included. */
const maxAttempts = 5;
/** First wait before a repeat, doubled each time up to the last, with full jitter, in milliseconds. */
const backoffMs = { first: 50, last: 2_000 };

const same = (bytes: Buffer): Buffer => bytes;
const never = new AbortController().signal;

/** One unary call, repeated on UNAVAILABLE where that is safe. */
export async function callUnary(call: OutgoingCall & { readonly request: Init }): Promise<unknown> {
  const { method, request, options } = call;
  const bytes = encode(method.input, request);
  const prepared = await prepareCall(call);
  const repeatable = options.retry ?? isRepeatable(method, request);
  for (let attempt = 1; ; attempt += 1) {
    try {
      const answer = await attemptUnary(call, prepared, bytes);
      prepared.finish(undefined);
      return decode(method.output, answer);
    } catch (thrown) {
      const fault = thrown instanceof Fault ? thrown : faultOfTransport(thrown);
      const waitMs = waitBeforeRepeat(fault, attempt);
      const tooLate = Date.now() + waitMs >= prepared.deadlineMs;
      if (!repeatable || fault.code !== "UNAVAILABLE" || attempt >= maxAttempts || tooLate) {
        prepared.finish(fault);
        throw fault;
      }
      await sleep(waitMs, prepared.signal ?? never);
      if (prepared.signal?.aborted === true) {
        prepared.finish(fault);
        throw fault;
      }
    }
  }
}

function attemptUnary(
  { channel, method }: OutgoingCall,
  prepared: PreparedCall,
  bytes: Buffer,
): Promise<Buffer> {
  return new Promise((resolve, reject) => {
    const sent = channel.transport.makeUnaryRequest<Buffer, Buffer>(
      pathOf(method),
      same,
      same,
      bytes,
      prepared.metadata,
      prepared.transport,
      (error, answer) => {
        forget();
        if (error !== null) reject(error);
        else if (answer === undefined) reject(new Fault("INTERNAL", "the answer is empty"));
        else resolve(answer);
      },
    );
    const forget = onAbort(prepared.signal, () => sent.cancel());
  });
}

function waitBeforeRepeat(fault: Fault, attempt: number): number {
  const ceilingMs = Math.min(backoffMs.last, backoffMs.first * 2 ** (attempt - 1));
  return Math.max(fault.retryAfterMs ?? 0, ceilingMs * (0.5 + Math.random() / 2));
}

const readingVerb = /^(?:Get|List|BatchGet|Query|Resolve|Explain|Quote|ExchangeToken|Check)/;

/** Whether a call may be repeated: a read, or a write that carries the id which makes it idempotent. */
function isRepeatable(method: DescMethod, request: Init): boolean {
  if (method.idempotency !== Idempotency.IDEMPOTENCY_UNKNOWN) return true;
  if (readingVerb.test(method.name)) return true;
  return carriesRequestId(request);
}

function carriesRequestId(request: unknown): boolean {
  if (typeof request !== "object" || request === null) return false;
  if ("requestId" in request)
    return typeof request.requestId === "string" && request.requestId !== "";
  if (!("items" in request) || !Array.isArray(request.items)) return false;
  return request.items.length > 0 && request.items.every(carriesRequestId);
}
