// A pull request's files and a review of it, by GitHub's own client: node review.mjs URL TOKEN OWNER/REPO NUMBER
import { createRequire } from "node:module";
import { pathToFileURL } from "node:url";

const [url, token, name, number] = process.argv.slice(2);
const require = createRequire(`${process.cwd()}/`);
const { Octokit } = await import(pathToFileURL(`${process.cwd()}/node_modules/@octokit/rest/dist-src/index.js`));
const [owner, repo] = name.split("/");
const pull = { owner, repo, pull_number: Number(number) };
const octokit = new Octokit({ baseUrl: url, auth: token, log: { debug() {}, info() {}, warn: console.error, error() {} } });

const files = await octokit.paginate(octokit.rest.pulls.listFiles, { ...pull, per_page: 100 });
const { data: head } = await octokit.rest.pulls.get(pull);
const comment = { path: files[0].filename, line: 1, side: "RIGHT", body: "from octokit" };
const sent = { ...pull, commit_id: head.head.sha, event: "COMMENT", body: "A review.", comments: [comment] };
const { data: review } = await octokit.rest.pulls.createReview(sent);
const refused = await octokit.rest.pulls.createReview({ ...sent, comments: [{ ...comment, line: 999 }] }).catch((e) => e);
const listed = await octokit.paginate(octokit.rest.pulls.listReviews, pull);
const answer = { files: files.length, review: review.id, listed: listed.map((one) => one.id), refused: refused.status };
console.log(JSON.stringify({ ...answer, errors: refused.response.data.errors }));
