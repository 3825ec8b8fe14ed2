import type {
  DescMethodBiDiStreaming,
  DescMethodClientStreaming,
  DescMethodServerStreaming,
  DescMethodUnary,
  DescService,
  MessageInitShape,
  MessageShape,
} from "@bufbuild/protobuf";
import type { CallContext } from "./context.ts";

/** The handler of one method, typed from its descriptor. It refuses a call by throwing a Fault. */
export type Handler<M> =
  M extends DescMethodUnary<infer I, infer O>
    ? (request: MessageShape<I>, context: CallContext) => Promise<MessageInitShape<O>>
    : M extends DescMethodServerStreaming<infer I, infer O>
      ? (request: MessageShape<I>, context: CallContext) => AsyncIterable<MessageInitShape<O>>
      : M extends DescMethodClientStreaming<infer I, infer O>
        ? (
            requests: AsyncIterable<MessageShape<I>>,
            context: CallContext,
          ) => Promise<MessageInitShape<O>>
        : M extends DescMethodBiDiStreaming<infer I, infer O>
          ? (
              requests: AsyncIterable<MessageShape<I>>,
              context: CallContext,
            ) => AsyncIterable<MessageInitShape<O>>
          : never;

/** The handlers of a service, one per method: `const handlers: Handlers<typeof TaskService> = { … }`. */
export type Handlers<S extends DescService> = {
  [K in keyof S["method"]]: Handler<S["method"][K]>;
};

/** A handler whose types are known only at run time. */
export interface AnyHandlers {
  readonly [method: string]: (request: never, context: CallContext) => unknown;
}

/** A service and its handlers, ready for `startServer`. */
export interface BoundService {
  readonly descriptor: DescService;
  readonly handlers: AnyHandlers;
}

/** Ties handlers to their service; the types are checked here and forgotten after. */
export function service<S extends DescService>(descriptor: S, handlers: Handlers<S>): BoundService {
  return { descriptor, handlers: handlers as AnyHandlers };
}
