/** Receives and seals the fixed layer, and dies by SIGKILL at the step whose number it is given. */
import { receiveFixedLayer } from './replica-fixtures.ts';

const [directory, dieAtStep] = process.argv.slice(2) as [string, string];
let step = 0;
await receiveFixedLayer(directory, () => {
  if (step === Number(dieAtStep)) process.kill(process.pid, 'SIGKILL');
  step += 1;
});
