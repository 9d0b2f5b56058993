/** Site B's receiver over a real catalog, as a process that a test kills. Its port comes as a message. */
import { openDatabase } from '../../../src/catalog/database.ts';
import { createReplicaCatalog } from '../../../src/catalog/replica-catalog.ts';
import { createSessionDirectory } from '../../../src/sites/session-directory.ts';
import { loadIdentity } from '../../../src/transfer/identity.ts';
import { createReceiver } from '../../../src/transfer/receiver.ts';

const [url = '', replicaRoot = '', identityFolder = ''] = process.argv.slice(2);
const nothing = (): void => {};
const catalog = createReplicaCatalog(openDatabase({ url }), { site: 'b', replicaRoot });
const receiver = createReceiver({
  identity: await loadIdentity(identityFolder),
  listen: { host: '127.0.0.1', port: 0 },
  directory: createSessionDirectory({ catalog, replicaRoot }),
  log: { debug: nothing, info: nothing, warn: nothing, error: nothing },
});
await receiver.start();
process.on('disconnect', () => process.exit(0));
process.send?.(receiver.port);
