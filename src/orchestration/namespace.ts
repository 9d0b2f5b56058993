/** Whether Temporal is there for us, with our namespace. */
import { setTimeout as sleep } from 'node:timers/promises';
import { msToTs } from '@temporalio/common/lib/time.js';
import { effect } from '../lib/fault-points.ts';
import { TemporalNamespaceMissingError } from './errors.ts';
import { type TemporalSettings, temporalTarget } from './temporal-connection.ts';
import { createTemporalLink, grpcFault, type TemporalLink } from './temporal-link.ts';

/** So long the histories of ended tasks can be looked at. */
const RETENTION = '30 days';
/** A server looks for new namespaces each few seconds only. */
const KNOWN_WITHIN_MS = 60_000;
const LOOK_EVERY_MS = 500;

/** Status codes of gRPC. @see https://grpc.github.io/grpc/core/md_doc_statuscodes.html */
const GRPC = {
  notFound: 5,
  alreadyExists: 6,
  permissionDenied: 7,
  unimplemented: 12,
  unauthenticated: 16,
} as const;
const NOT_OURS_TO_MAKE: readonly (number | null)[] = [
  GRPC.permissionDenied,
  GRPC.unimplemented,
  GRPC.unauthenticated,
];

/**
 * Returns when Temporal answers and has the namespace.
 * @throws {TemporalUnreachableError} {@link TemporalRefusedError} {@link TemporalNamespaceMissingError}
 */
export async function checkNamespace(settings: TemporalSettings): Promise<void> {
  await withLink(settings, async link => {
    if (!(await isThere(link))) throw missing(link);
  });
}

/**
 * Makes the namespace where Temporal has none of its name, as after the loss of Temporal's database, and returns when
 * it can be used. May be run again.
 * @returns its name, and whether it was there
 * @throws {TemporalUnreachableError} {@link TemporalRefusedError} {@link TemporalNamespaceMissingError} when it may
 *   only be made by somebody else, as in Temporal Cloud
 */
export async function ensureNamespace(
  settings: TemporalSettings,
): Promise<{ readonly namespace: string; readonly result: 'made' | 'present' }> {
  return withLink(settings, async link => {
    const { namespace } = link.target;
    const isPresent = await isThere(link);
    if (!isPresent) await register(link);
    await untilUsable(link);
    return { namespace, result: isPresent ? 'present' : 'made' };
  });
}

async function withLink<T>(settings: TemporalSettings, work: (link: TemporalLink) => Promise<T>): Promise<T> {
  const link = createTemporalLink(temporalTarget(settings));
  try {
    return await work(link);
  } finally {
    await link.close();
  }
}

const missing = ({ target }: TemporalLink, cause?: unknown): TemporalNamespaceMissingError =>
  new TemporalNamespaceMissingError(target.address, target.namespace, { cause });

async function isThere(link: TemporalLink): Promise<boolean> {
  const { namespace } = link.target;
  try {
    await link.call(({ client }) => client.workflowService.describeNamespace({ namespace }));
    return true;
  } catch (error) {
    if (grpcFault(error).code === GRPC.notFound) return false;
    throw error;
  }
}

async function register(link: TemporalLink): Promise<void> {
  const { namespace } = link.target;
  try {
    await effect('temporal.registerNamespace', () =>
      link.call(({ client }) =>
        client.workflowService.registerNamespace({
          namespace,
          description: 'Offsite: remote replication of hosts',
          workflowExecutionRetentionPeriod: msToTs(RETENTION),
        }),
      ),
    );
  } catch (error) {
    const { code } = grpcFault(error);
    // The setup of the other site does the same at the same time.
    if (code === GRPC.alreadyExists) return;
    throw NOT_OURS_TO_MAKE.includes(code) ? missing(link, error) : error;
  }
}

/** Its attributes are read by way of what each server remembers of the namespaces. */
async function untilUsable(link: TemporalLink): Promise<void> {
  const { namespace } = link.target;
  const endMs = performance.now() + KNOWN_WITHIN_MS;
  for (;;) {
    try {
      await link.call(({ connection }) => connection.operatorService.listSearchAttributes({ namespace }));
      return;
    } catch (error) {
      const { code } = grpcFault(error);
      // Then nobody asks for them, either.
      if (NOT_OURS_TO_MAKE.includes(code)) return;
      if (code !== GRPC.notFound || performance.now() > endMs) throw error;
    }
    await sleep(LOOK_EVERY_MS);
  }
}
