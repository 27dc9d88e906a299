"""PDB and mmCIF files as rows: a chain with protein residues, its sequence and the places of its atoms."""

from __future__ import annotations

__all__ = ["COLUMNS", "structure_rows"]

import gzip
import io
import zlib
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pretune.errors import DataError
from pretune.readers import RowStream, open_binary

COLUMNS = ("id", "sequence", "n", "ca", "c", "cb")

_BOND = 2.0
"""Angstrom between C and N of residues that are linked (1.33), with room for models of low resolution."""


def structure_rows(path: Path, needed: Sequence[str] | None = None) -> RowStream:
    """A chain a row, in the order of the file; of several models, the first.

    ``id`` is the name of the file and of the chain (``1abc_A``). ``sequence`` has the residues that were observed:
    modified ones as the residue that they come from (MSE is M) where Biotite's chemical dictionary knows it, else
    X. ``n``, ``ca``, ``c`` and ``cb`` are lists of ``[x, y, z]`` in Angstrom, one a residue; an atom that is
    missing has three NaN. CB is that of CA in glycine and where it is missing.
    Amino acids that are bound to no other of the chain, such as ligands, are left out.

    Args:
        path: The file, plain or ``.gz``.
        needed: The columns that are wanted; None for all.

    Raises:
        DataError: The file is damaged or has no protein chain.
    """
    import biotite.structure as struc

    atoms = _atoms(path)
    atoms = atoms[struc.filter_amino_acids(atoms)]
    stem = _stem(path)
    number = 0
    for chain in dict.fromkeys(atoms.chain_id.tolist()):
        row = _chain(atoms[atoms.chain_id == chain])
        if row["sequence"]:
            number += 1
            row = {"id": f"{stem}_{chain}" if chain.strip() else stem, **row}
            yield number, {k: v for k, v in row.items() if needed is None or k in needed}
    if not number:
        raise DataError(f'"{path}" has no chain of amino acids; give a structure of a protein.')


def _atoms(path: Path) -> Any:
    try:
        with open_binary(path) as stream:
            text = io.StringIO(stream.read().decode())
    except (gzip.BadGzipFile, EOFError, zlib.error) as bad:
        raise DataError(f'"{path}" is damaged or not gzip ({bad}); fetch it again or remove ".gz".') from bad
    except UnicodeDecodeError as bad:
        raise DataError(f'"{path}" is no text file (a wrong byte at {bad.start}); give PDB or mmCIF.') from bad
    cif, looks = _plain(path).suffix.lower() == ".cif", text.getvalue().lstrip().startswith("data_")
    if looks and not cif:
        raise DataError(f'"{path}" begins as mmCIF; give it the ending .cif.')
    try:
        return _parsed(text, cif=cif)
    except Exception as bad:  # what Biotite raises for a damaged file is not of one kind
        raise DataError(f'"{path}" cannot be read as a structure ({bad}); fetch it again as PDB or mmCIF.') from bad


def _parsed(text: io.StringIO, *, cif: bool) -> Any:
    from biotite.structure.io import pdb, pdbx

    if cif:
        return pdbx.get_structure(pdbx.CIFFile.read(text), model=1, altloc="occupancy")
    return pdb.PDBFile.read(text).get_structure(model=1, altloc="occupancy")


def _plain(path: Path) -> Path:
    return path.with_suffix("") if path.suffix.lower() == ".gz" else path


def _stem(path: Path) -> str:
    return _plain(path).stem


def _chain(atoms: Any) -> dict[str, Any]:
    import biotite.structure as struc

    starts = struc.get_residue_starts(atoms)
    owner = np.repeat(np.arange(len(starts)), np.diff([*starts, len(atoms)]))
    places = {name: _places(atoms, owner, len(starts), name.upper()) for name in ("n", "ca", "c", "cb")}
    no_beta = np.isnan(places["cb"]).any(axis=1)
    places["cb"][no_beta] = places["ca"][no_beta]
    kept = ~atoms.hetero[starts] | _linked(places["n"], places["c"])
    letters = np.array([_letter(name) for name in atoms.res_name[starts].tolist()])
    return {"sequence": "".join(letters[kept]), **{k: v[kept].round(3).tolist() for k, v in places.items()}}


def _places(atoms: Any, owner: NDArray[np.int64], count: int, name: str) -> NDArray[np.float64]:
    found = np.full((count, 3), np.nan)
    chosen = atoms.atom_name == name
    found[owner[chosen]] = atoms.coord[chosen]
    return found


def _linked(n: NDArray[np.float64], c: NDArray[np.float64]) -> NDArray[np.bool_]:
    """Whether a residue is bound to the one before or after it."""
    bound = np.linalg.norm(n[1:] - c[:-1], axis=1) < _BOND
    return np.concatenate(([False], bound)) | np.concatenate((bound, [False]))


def _letter(residue: str) -> str:
    from biotite.structure import info

    letter = info.one_letter_code(residue)
    return letter if letter is not None and len(letter) == 1 else "X"
