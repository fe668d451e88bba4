"""The FHIR servers that a process may ask whose a record is, as the settings and the routes say."""

from collections.abc import Mapping
from contextlib import AsyncExitStack

from ruqsat.core.routes import RouteTable
from ruqsat.errors import SettingsError
from ruqsat.listening import naming
from ruqsat.service.metrics import Metrics
from ruqsat.service.record_lookup import LookupCounts, LookupLimits, RecordLookup
from ruqsat.settings import Settings
from ruqsat.stores.fhir_server import FhirServerEntry, HttpFhirServer, read_servers


def open_lookups(
    settings: Settings, routes: RouteTable, metrics: Metrics, stack: AsyncExitStack
) -> Mapping[str, RecordLookup]:
    """
    Return what answers look-ups, by base; closed when *stack* is left.

    Raises:
        SettingsError: the file cannot be used, or names a base that the routes do not.
    """
    counts = LookupCounts()
    with naming("RUQSAT_FHIR_SERVERS"):
        entries = read_servers(settings.fhir_servers)
        known = [server.base for server in routes.fhir.servers] if routes.fhir is not None else []
        for base in sorted(entries.keys() - set(known)):
            raise SettingsError(f'["{base}"] is the base of no `[[fhir.server]]` of policies/routes.toml')
        found = {base: _open(entry, counts, stack) for base, entry in entries.items()}
    if found:
        counts.watch(metrics)
    return found


def _open(entry: FhirServerEntry, counts: LookupCounts, stack: AsyncExitStack) -> RecordLookup:
    server = HttpFhirServer(entry)
    stack.push_async_callback(server.aclose)
    limits = LookupLimits(entry.seconds, entry.at_once, entry.keep_seconds, entry.keep_entries, entry.keep_bytes)
    lookup = RecordLookup(server, entry.url, limits, counts)
    stack.push_async_callback(lookup.aclose)
    return lookup
