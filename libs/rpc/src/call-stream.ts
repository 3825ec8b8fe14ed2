import type { DescMessage, MessageInitShape } from "@bufbuild/protobuf";
import type { Fault } from "@fastgpu/domain/fault";
import { Fault as FaultError } from "@fastgpu/domain/fault";
import type { ClientDuplexStream, ClientReadableStream, ClientWritableStream } from "@grpc/grpc-js";
import { decode, encode, pathOf } from "./adapter.ts";
import { faultOfTransport, onAbort, prepareCall } from "./outgoing.ts";
import type { OutgoingCall, PreparedCall } from "./outgoing.ts";

type Init = MessageInitShape<DescMessage>;
type Sink = ClientWritableStream<Buffer> | ClientDuplexStream<Buffer, Buffer>;
type Source = ClientReadableStream<Buffer> | ClientDuplexStream<Buffer, Buffer>;

const same = (bytes: Buffer): Buffer => bytes;

/** One server-streaming call. Leaving the loop cancels it. */
export async function* callServerStream(
  call: OutgoingCall,
  request: Init,
): AsyncGenerator<unknown, void, undefined> {
  const { channel, method } = call;
  const bytes = encode(method.input, request);
  const prepared = await prepareCall(call);
  const source = channel.transport.makeServerStreamRequest<Buffer, Buffer>(
    pathOf(method),
    same,
    same,
    bytes,
    prepared.metadata,
    prepared.transport,
  );
  yield* readAll(call, prepared, source);
}

/** One bidirectional call. Leaving the loop cancels it; an error of `requests` does too and is thrown here. */
export async function* callBidiStream(
  call: OutgoingCall,
  requests: AsyncIterable<Init>,
): AsyncGenerator<unknown, void, undefined> {
  const { channel, method } = call;
  const prepared = await prepareCall(call);
  const stream = channel.transport.makeBidiStreamRequest<Buffer, Buffer>(
    pathOf(method),
    same,
    same,
    prepared.metadata,
    prepared.transport,
  );
  const failed: { cause?: unknown } = {};
  void writeAll(call, stream, requests).catch((error: unknown) => {
    failed.cause = error;
    stream.cancel();
  });
  try {
    yield* readAll(call, prepared, stream);
  } catch (error) {
    throw "cause" in failed ? failed.cause : error;
  }
}

/** One client-streaming call. */
export async function callClientStream(
  call: OutgoingCall,
  requests: AsyncIterable<Init>,
): Promise<unknown> {
  const { channel, method } = call;
  const prepared = await prepareCall(call);
  const answered = Promise.withResolvers<Buffer>();
  const sink = channel.transport.makeClientStreamRequest<Buffer, Buffer>(
    pathOf(method),
    same,
    same,
    prepared.metadata,
    prepared.transport,
    (error, answer) => {
      if (error !== null) answered.reject(faultOfTransport(error));
      else if (answer === undefined) {
        answered.reject(new FaultError("INTERNAL", "the answer is empty"));
      } else answered.resolve(answer);
    },
  );
  const forget = onAbort(prepared.signal, () => sink.cancel());
  let fault: Fault | undefined;
  try {
    // The answer may come before the last request: a refusal ends the writing.
    const writing = writeAll(call, sink, requests).catch((error: unknown) => {
      sink.cancel();
      throw error;
    });
    const answer = await Promise.race([answered.promise, writing.then(() => answered.promise)]);
    return decode(method.output, answer);
  } catch (error) {
    fault = FaultError.from(error);
    throw fault;
  } finally {
    forget();
    prepared.finish(fault);
  }
}

async function* readAll(
  { method }: OutgoingCall,
  prepared: PreparedCall,
  source: Source,
): AsyncGenerator<unknown, void, undefined> {
  const forget = onAbort(prepared.signal, () => source.cancel());
  let fault: Fault | undefined;
  try {
    for await (const bytes of source) yield decode(method.output, bytes as Buffer);
  } catch (error) {
    fault = error instanceof FaultError ? error : faultOfTransport(error);
    throw fault;
  } finally {
    forget();
    // Cancelling a finished call does nothing; one whose reader left must not run on.
    source.cancel();
    // The cancel is reported as an error to a stream that nobody reads any more.
    source.on("error", () => undefined);
    prepared.finish(fault);
  }
}

/** Writes all requests, no faster than the connection takes them. Stops asking for more once the call has ended. */
async function writeAll(
  { method }: OutgoingCall,
  sink: Sink,
  requests: AsyncIterable<Init>,
): Promise<void> {
  const iterator = requests[Symbol.asyncIterator]();
  let ended = false;
  let release: (() => void) | undefined;
  sink.once("status", () => {
    ended = true;
    release?.();
    void iterator.return?.().catch(() => undefined);
  });
  for (;;) {
    const next = await iterator.next();
    if (ended || sink.destroyed) return;
    if (next.done === true) break;
    if (!sink.write(encode(method.input, next.value))) {
      await new Promise<void>((resolve) => {
        release = resolve;
        sink.once("drain", resolve);
      });
    }
  }
  sink.end();
}
