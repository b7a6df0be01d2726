import { Tokenwell } from 'tokenwell';

const tokenwell = new Tokenwell({ directory: 'connections' });
const connection = await tokenwell.open('crm', {
  issuer: process.env.CRM_ISSUER,
  grant_type: 'client_credentials',
  client_id: process.env.CRM_CLIENT_ID,
  client_secret: { ref: 'env:CRM_SECRET' },
});
const response = await connection.fetch(process.env.CRM_URL); // with a token, always fresh
console.log(response.status, await response.text());
