/** Whether Temporal is there for us. */
import { type TemporalSettings, temporalTarget } from './temporal-connection.ts';
import { createTemporalLink } from './temporal-link.ts';

/**
 * @returns the namespace's name
 * @throws {TemporalUnreachableError} {@link TemporalRefusedError}, also when the namespace does not exist
 */
export async function checkNamespace(settings: TemporalSettings): Promise<string> {
  const target = temporalTarget(settings);
  const link = createTemporalLink(target);
  try {
    await link.call(({ client }) =>
      client.workflowService.describeNamespace({ namespace: target.namespace }),
    );
    return target.namespace;
  } finally {
    await link.close();
  }
}
