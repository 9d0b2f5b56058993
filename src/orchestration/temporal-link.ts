/** One lazy connection to Temporal, where every call has a deadline and every failure a name. */
import { Client, Connection, isGrpcServiceError } from '@temporalio/client';
import { NamespaceNotFoundError } from '@temporalio/common';
import { OffsiteError } from '../domain/errors.ts';
import { TemporalNamespaceMissingError, TemporalRefusedError, TemporalUnreachableError } from './errors.ts';
import type { TemporalTarget } from './temporal-connection.ts';
import { tlsFault } from './temporal-tls.ts';

const CONNECT_TIMEOUT_MS = 5_000;
const CALL_TIMEOUT_MS = 5_000;

/** Status codes of gRPC. @see https://grpc.github.io/grpc/core/md_doc_statuscodes.html */
const GRPC = {
  cancelled: 1,
  deadlineExceeded: 4,
  permissionDenied: 7,
  unavailable: 14,
  unauthenticated: 16,
} as const;

interface Open {
  readonly connection: Connection;
  readonly client: Client;
}

export interface TemporalLink {
  readonly target: TemporalTarget;
  /**
   * Runs `action` with a client; connects first when needed, and anew after a failure to connect.
   * @throws {TemporalUnreachableError} {@link TemporalRefusedError} {@link TemporalNamespaceMissingError}; everything else comes through as it is
   */
  call<T>(action: (open: Open) => Promise<T>, timeoutMs?: number): Promise<T>;
  close(): Promise<void>;
}

/** Gives a link that connects at its first call, within `connectTimeoutMs`. */
export function createTemporalLink(
  target: TemporalTarget,
  connectTimeoutMs = CONNECT_TIMEOUT_MS,
): TemporalLink {
  let opening: Promise<Open> | null = null;

  const connected = (): Promise<Open> => {
    opening ??= open(target, connectTimeoutMs).catch(error => {
      opening = null;
      throw error;
    });
    return opening;
  };

  return {
    target,
    async call(action, timeoutMs = CALL_TIMEOUT_MS) {
      const link = await connected();
      try {
        return await link.connection.withDeadline(Date.now() + timeoutMs, () => action(link));
      } catch (error) {
        throw translate(error, target);
      }
    },
    async close() {
      const link = await opening?.catch(() => null);
      opening = null;
      await link?.connection.close();
    },
  };
}

async function open(target: TemporalTarget, connectTimeoutMs: number): Promise<Open> {
  try {
    const connection = await Connection.connect({
      ...target.connectionOptions,
      connectTimeout: connectTimeoutMs,
    });
    return { connection, client: new Client({ connection, namespace: target.namespace }) };
  } catch (error) {
    const translated = translate(error, target);
    if (translated instanceof OffsiteError) throw translated;
    const fault = await tlsFault(target);
    if (fault !== null) throw fault;
    throw new TemporalUnreachableError(target.address, oneLine((error as Error).message), { cause: error });
  }
}

function translate(error: unknown, target: TemporalTarget): unknown {
  if (error instanceof NamespaceNotFoundError) {
    return new TemporalNamespaceMissingError(target.address, error.namespace, { cause: error });
  }
  const { code, details } = grpcFault(error);
  if (code === GRPC.unavailable) {
    return new TemporalUnreachableError(target.address, oneLine(details), { cause: error });
  }
  if (code === GRPC.permissionDenied || code === GRPC.unauthenticated) {
    return new TemporalRefusedError(target.address, oneLine(details), { cause: error });
  }
  return error;
}

/** The gRPC status within an error, if there is one. */
export function grpcFault(error: unknown): { code: number | null; details: string } {
  for (let cause = error; cause instanceof Error; cause = cause.cause) {
    if (isGrpcServiceError(cause)) return { code: cause.code, details: cause.details || cause.message };
  }
  return { code: null, details: error instanceof Error ? error.message : String(error) };
}

/** True when a call ran into its deadline. The server may notice first and then says `cancelled`. */
export function isDeadline(error: unknown): boolean {
  const { code } = grpcFault(error);
  return code === GRPC.deadlineExceeded || code === GRPC.cancelled;
}

const oneLine = (text: string): string => text.replaceAll(/\s+/g, ' ').trim();
