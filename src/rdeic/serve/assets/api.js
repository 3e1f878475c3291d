// Requests to the server that this page came from, and to no other.

const KEY = "rdeic-token";

// The address may bring the token after #, which browsers send to nobody.
export function takeToken() {
  const given = new URLSearchParams(location.hash.slice(1)).get("token");
  if (given) {
    sessionStorage.setItem(KEY, given);
    history.replaceState(null, "", location.pathname);
  }
}

export class Problem extends Error {
  constructor(name, detail, title) {
    super(detail);
    this.name = name; // such as "bad-picture"
    this.title = title;
  }
}

function headers(extra) {
  const token = sessionStorage.getItem(KEY);
  return token ? { ...extra, Authorization: `Bearer ${token}` } : extra;
}

async function problemOf(response) {
  try {
    const said = await response.json();
    return new Problem(said.type.split(":").pop(), said.detail, said.title);
  } catch {
    return new Problem("internal", `The server answered ${response.status}.`, "Failed");
  }
}

// Sends a file. `parameters` that are null are left out; `name` is what progress() may be asked for.
export async function post(path, body, { accept, parameters = {}, signal, name = "" }) {
  const query = new URLSearchParams(Object.entries(parameters).filter(([, value]) => value !== null));
  const sent = { "Content-Type": "application/octet-stream", Accept: accept, ...(name && { "Request-Name": name }) };
  let response;
  try {
    response = await fetch(`/v1/${path}?${query}`, { method: "POST", body, signal, headers: headers(sent) });
  } catch (error) {
    if (error.name === "AbortError") throw error;
    throw new Problem("unreachable", "The server does not answer. Is rdeic serve still running?", "No answer");
  }
  if (!response.ok) throw await problemOf(response);
  return response;
}

// Where a request is; null if nobody knows.
export async function progress(name) {
  try {
    const response = await fetch(`/v1/progress/${name}`, { headers: headers({}) });
    return response.ok ? await response.json() : null;
  } catch {
    return null;
  }
}
