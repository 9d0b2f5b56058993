/** Opens a replica's inventory for one command. */
import type { CommandContext } from '../command-context.ts';
import type { ReplicaInventory } from '../ports.ts';
import { loadSiteServices, using } from '../services.ts';

export async function withReplicaInventory<T>(
  context: CommandContext,
  use: (inventory: ReplicaInventory) => Promise<T>,
): Promise<T> {
  const config = await context.config();
  const { openReplicaInventory } = await loadSiteServices();
  return using(openReplicaInventory(config), use);
}
