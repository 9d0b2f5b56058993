/** A process that passes a fault point three times; the environment arms it. */
import { armFaults } from '../../../src/lib/fault-injection.ts';
import { effect, effectSync } from '../../../src/lib/fault-points.ts';

const say = (line: string): boolean => process.stdout.write(`${line}\n`);

say(`armed ${armFaults(process.env, 'a') !== null}`);
for (let count = 1; count <= 3; count += 1) {
  await effect('replica.seal.rename', async () => say(`renamed ${count}`));
}
effectSync('transfer.send.ack', () => say('acknowledged'));
