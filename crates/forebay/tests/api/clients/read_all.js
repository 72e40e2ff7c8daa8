// Calls everything that reads, of both clients, on the API at the address given; prints one JSON object a call.
'use strict';

const { dposAPI } = require('dpos-api-wrapper');
const { convertWrapper } = require('risejs');

const url = process.argv[2];
const address = '9829842864375954536R';
const publicKey = '4f5b4ccef2e8fbafc05dbd45f51edca9b36a410cec559ec60fefca5f51454423';
const delegateKey = 'a16d06541d2cafbd9931ec5dbd8b324c4c8f04370fd79bbdacdd6391f3585b6f';
const member = 'f2e33527a0b4cdb935d8be23c814496e5516a21208c52ca39afafa4b16238494';

const calls = (api, transport) => ({
  'accounts.getBalance': () => api.accounts.getBalance(address),
  'accounts.getPublicKey': () => api.accounts.getPublicKey(address),
  'accounts.getAccount': () => api.accounts.getAccount(address),
  'accounts.getAccountByPublicKey': () => api.accounts.getAccountByPublicKey(publicKey),
  'accounts.getDelegates': () => api.accounts.getDelegates(address),
  'blocks.getFeeSchedule': () => api.blocks.getFeeSchedule(),
  'blocks.getFee': () => api.blocks.getFee(),
  'blocks.getReward': () => api.blocks.getReward(),
  'blocks.getSupply': () => api.blocks.getSupply(),
  'blocks.getStatus': () => api.blocks.getStatus(),
  'blocks.getHeight': () => api.blocks.getHeight(),
  'blocks.getNethash': () => api.blocks.getNethash(),
  'blocks.getMilestone': () => api.blocks.getMilestone(),
  'blocks.getBlock': () => api.blocks.getBlock('14255022406092495528'),
  'blocks.getBlocks': () => api.blocks.getBlocks({ limit: 3, orderBy: 'height:asc' }),
  'delegates.getList': () => api.delegates.getList({ limit: 7, offset: 2, orderBy: 'rank:asc' }),
  'delegates.getByUsername': () => api.delegates.getByUsername('ora_del_0'),
  'delegates.getByPublicKey': () => api.delegates.getByPublicKey(delegateKey),
  'delegates.getVoters': () => api.delegates.getVoters(delegateKey),
  'delegates.getForgedByAccount': () => api.delegates.getForgedByAccount(delegateKey),
  'delegates.getForgedByAccount between': () =>
    api.delegates.getForgedByAccount({ generatorPublicKey: delegateKey, start: 0, end: 2000000000 }),
  'delegates.getForgingStatus': () => api.delegates.getForgingStatus(),
  'delegates.getForgingStatus of one': () => api.delegates.getForgingStatus(delegateKey),
  'delegates.getNextForgers': () => api.delegates.getNextForgers(5),
  'loader.status': () => api.loader.status(),
  'loader.syncStatus': () => api.loader.syncStatus(),
  'multiSignatures.getPending': () => api.multiSignatures.getPending(publicKey),
  'multiSignatures.getAccounts': () => api.multiSignatures.getAccounts(member),
  'peers.getList': () => api.peers.getList({ limit: 10 }),
  'peers.version': () => api.peers.version(),
  'signatures.getSecondSignatureFee': () => api.signatures.getSecondSignatureFee(),
  'transactions.get': () => api.transactions.get('14427670995595934402'),
  'transactions.count': () => api.transactions.count(),
  'transactions.getList': () => api.transactions.getList({ senderId: address, limit: 2 }),
  'transactions.getUnconfirmedList': () => api.transactions.getUnconfirmedList(),
  'transport.getHeight': () => transport.getHeight(),
  'transport.listPeers': () => transport.listPeers(),
  'transport.ping': () => transport.ping(),
  // Unknown here, and the client is told so.
  'peers.getByIPPort': () => api.peers.getByIPPort({ ip: '127.0.0.1', port: 1 }),
  'transactions.getUnconfirmedTransaction': () => api.transactions.getUnconfirmedTransaction('123'),
  'accounts.getAccount unknown': () => api.accounts.getAccount('12345R'),
  'dapps.getCategories': () => api.dapps.getCategories(),
});

const tell = (client, call, outcome) => console.log(JSON.stringify({ client, call, ...outcome }));

async function run(client, api) {
  const transport = await api.buildTransport();
  for (const [call, ask] of Object.entries(calls(api, transport))) {
    try {
      tell(client, call, { answer: await ask() });
    } catch (error) {
      tell(client, call, { error: error.message });
    }
  }
}

run('dpos-api-wrapper', dposAPI.newWrapper(url))
  .then(() => run('risejs', convertWrapper(dposAPI.newWrapper(url))))
  .catch((error) => {
    console.error(error);
    process.exit(1);
  });
