/** Receives a journal, and dies by SIGKILL at the fault point whose number it is given. */
import { setFaultInjector } from '../../../src/lib/fault-points.ts';
import { receiveAll } from './journal-fixtures.ts';

const [folder, total, dieAtStep] = process.argv.slice(2) as [string, string, string];
let step = 0;
const reach = (): void => {
  if (step === Number(dieAtStep)) process.kill(process.pid, 'SIGKILL');
  step += 1;
};
setFaultInjector({ reach: async () => reach(), reachSync: reach });
await receiveAll(folder, Number(total));
