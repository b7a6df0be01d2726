// A process of its own: asks for the token so many times at once, and prints it.
//
//   node child.mjs DIR CONFIG TIMES
import { Tokenwell } from 'tokenwell';

const [directory, config, times] = process.argv.slice(2);
const tokenwell = new Tokenwell({ directory });
const connections = await Promise.all(
  Array.from({ length: Number(times) }, () => tokenwell.open('crm', JSON.parse(config))),
);
const tokens = await Promise.all(connections.map((connection) => connection.token()));
console.log([...new Set(tokens.map(({ accessToken }) => accessToken))].join(' '));
