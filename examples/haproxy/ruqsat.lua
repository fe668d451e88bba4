-- Asks the sidecar about a request: lua.ruqsat HOST:PORT
--
-- It sets txn.ruqsat_status and what the answer's headers say.  If anything fails, the variable stays 0 and the
-- configuration denies.  One question a request: a repeated one would be a second entry of the journal.

local function first(headers, name)
  local values = headers and headers[name]
  return values and values[0] or ""
end

local writes = { POST = true, PUT = true, PATCH = true }

core.register_action("ruqsat", { "http-req" }, function(txn, address)
  local sent = txn.http:req_get_headers()
  local headers = {
    ["x-original-method"] = { txn.sf:method() },
    ["x-original-uri"] = { txn.sf:url() },
    ["x-original-host"] = { first(sent, "host") },
  }
  -- All of them, as they came: that one is too many is the sidecar's to say.  Those after the first two, but the last, change the
  -- meaning of a FHIR request: of what it is not told, the sidecar cannot refuse anything.
  for _, name in ipairs({
    "authorization", "traceparent",
    "content-encoding", "content-type", "if-none-exist", "prefer", "x-cascade", "x-fhir-dsid", "x-fhir-tenant-id", "x-http-method",
    "x-http-method-override", "x-meta-snapshot-mode", "x-method-override", "x-provenance", "x-request-partition-ids",
    "x-rewrite-history", "x-security-context",
    "x-ruqsat-signature", "x-ruqsat-session",
  }) do
    local values = {}
    for index = 0, 7 do
      if sent[name] and sent[name][index] then values[#values + 1] = sent[name][index] end
    end
    if #values > 0 then headers[name] = values end
  end

  -- What is written (docs/routes.md, docs/signatures.md), if `option http-buffer-request` holds it back; never a part of it.
  local body
  local length = sent["content-length"]
  if writes[txn.sf:method()] and length and not length[1] then
    local held = txn.sf:req_body()
    if held and #held > 0 and tostring(#held) == length[0] then
      body = held
      headers["x-ruqsat-body"] = { "whole" }
    end
  end

  local client = core.httpclient()
  local question = { url = "http://" .. address .. "/authz/haproxy", headers = headers, timeout = 1000, body = body }
  local answer = body and client:post(question) or client:get(question)
  if not answer or not answer.status then return end

  txn:set_var("txn.ruqsat_decision", first(answer.headers, "x-ruqsat-decision"))
  txn:set_var("txn.ruqsat_reason", first(answer.headers, "x-ruqsat-reason"))
  txn:set_var("txn.ruqsat_subject", first(answer.headers, "x-ruqsat-subject"))
  txn:set_var("txn.ruqsat_challenge", first(answer.headers, "www-authenticate"))
  txn:set_var("txn.ruqsat_status", answer.status)
end, 1)
