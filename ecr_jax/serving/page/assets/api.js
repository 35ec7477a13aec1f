// The server's HTTP interface. Addresses are relative, so the page also works below a prefix of a proxy.

import { dataOf } from "./sse.js";

/** What went wrong, in words for the person; `retryAfter` in seconds where the server says when to come back. */
export class ApiError extends Error {
  constructor(text, { status = 0, retryAfter = null } = {}) {
    super(sentence(text));
    this.status = status;
    this.retryAfter = retryAfter;
  }
}

/** Messages of the server begin with a small letter and have no full stop. */
const sentence = (text) => text.charAt(0).toUpperCase() + text.slice(1) + (/[.!?…]$/.test(text) ? "" : ".");

const KEY = "ecr.key";
let askForKey = async () => false;
let asking = null;
let first = null; // the first request goes alone: with its answer a new browser gets the cookie that tells it apart

/** Sets who is asked for an API key when the server wants one: an async function that says whether there is a new one. */
export const onKeyNeeded = (ask) => (askForKey = ask);
export const storedKey = () => localStorage.getItem(KEY) ?? "";
export const storeKey = (key) => (key ? localStorage.setItem(KEY, key) : localStorage.removeItem(KEY));

async function request(path, { method = "GET", json, body, type, signal } = {}) {
  const headers = {};
  if (storedKey()) headers.Authorization = `Bearer ${storedKey()}`;
  if (json !== undefined) type = "application/json";
  if (type) headers["Content-Type"] = type;
  const send = () =>
    fetch(new URL(path, document.baseURI), {
      method,
      headers,
      signal,
      body: json === undefined ? body : JSON.stringify(json),
    });
  let response;
  try {
    if (first === null) {
      response = await (first = send());
    } else {
      await first.catch(() => {}); // whoever made it hears of its error
      response = await send();
    }
  } catch (error) {
    if (error.name === "AbortError") throw error;
    throw new ApiError("The server cannot be reached. Is it running, and are you connected?");
  }
  if (response.ok) return response;
  if (response.status === 401) {
    asking ??= askForKey().finally(() => (asking = null)); // several requests may fail at once; ask once
    if (await asking) return request(path, { method, json, body, type, signal });
  }
  throw await errorOf(response);
}

async function errorOf(response) {
  const text = await response.text();
  let message = "";
  try {
    const { error } = JSON.parse(text);
    message = error?.message ?? "";
  } catch {
    // not from our server, but from something before it: its page is of no use here
  }
  const seconds = Number(response.headers.get("Retry-After"));
  const fallback = `The server answered ${response.status} ${response.statusText}`.trim() + ".";
  return new ApiError(message || fallback, {
    status: response.status,
    retryAfter: Number.isFinite(seconds) && seconds > 0 ? seconds : null,
  });
}

const at = (id) => `conversations/${encodeURIComponent(id)}`;
const answer = async (...args) => (await request(...args)).json();

export const models = async () => (await answer("v1/models")).data;
export const PAGE = 100;
/** Conversations, the latest first, from number `offset` on; PAGE of them or fewer. */
export const conversations = ({ query = "", offset = 0 }, signal) => {
  const parameters = new URLSearchParams({ limit: PAGE, offset, ...(query && { query }) });
  return answer(`conversations?${parameters}`, { signal });
};
export const conversation = (id) => answer(at(id));
export const rename = (id, title) => request(at(id), { method: "PATCH", json: { title } });
export const remove = (id) => request(at(id), { method: "DELETE" });
export const removeEverything = () => request("me", { method: "DELETE" });
export const feedback = (json) => request("feedback", { method: "POST", json });
export const exported = async (id) => (await request(`${at(id)}/export`)).text();
export const imported = (text) =>
  answer("conversations/import", { method: "POST", body: text, type: "application/x-ndjson" });

/** Streams a reply: yields {text, ecr}, either of them maybe absent. */
export async function* complete(json, signal) {
  const response = await request("v1/chat/completions", { method: "POST", json: { ...json, stream: true }, signal });
  let finished = false;
  try {
    for await (const data of dataOf(response.body)) {
      if (data === "[DONE]") return;
      const chunk = JSON.parse(data);
      if (chunk.error) throw new ApiError(chunk.error.message);
      const choice = chunk.choices?.[0];
      finished ||= Boolean(choice?.finish_reason);
      yield { text: choice?.delta?.content ?? "", ecr: chunk.ecr ?? choice?.ecr };
    }
  } catch (error) {
    if (error instanceof ApiError || error.name === "AbortError") throw error;
    throw new ApiError("The connection broke before the reply was whole.");
  }
  if (!finished) throw new ApiError("The connection ended before the reply was whole.");
}
