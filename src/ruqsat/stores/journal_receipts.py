"""Receipts of a serving journal: one is made at a time, on a thread, beside what is written."""

import asyncio
from pathlib import Path

from ruqsat.core.journal_proof import Receipt
from ruqsat.core.journaled import Journaled, read_line
from ruqsat.errors import JournalError
from ruqsat.stores.journal_proofs import make_receipt


class JournalReceipts:
    """The receipts of one folder, which holds the decisions of one sidecar."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._one = asyncio.Semaphore(1)

    async def find(self, entry: str, *, without_personal: bool = False) -> tuple[Receipt, Journaled]:
        """
        Return the receipt of an entry, and what the entry says.

        Raises:
            NoReceiptError: there is no such entry, or no checkpoint vouches for it yet.
            JournalError: the folder cannot be read.
        """
        async with self._one:
            return await asyncio.to_thread(self._make, entry, without_personal)

    def _make(self, entry: str, without_personal: bool) -> tuple[Receipt, Journaled]:
        receipt = make_receipt(self._folder, entry, without_personal=without_personal)
        said = read_line(receipt.line.encode() + b"\n")
        if said is None:
            raise JournalError("the line of this entry cannot be read")
        return receipt, said
