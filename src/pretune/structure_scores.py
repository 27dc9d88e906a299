"""How near a predicted chain is to the true one (biotite's scores), and the files that hold it."""

from __future__ import annotations

__all__ = ["chain", "structure_scores", "write_structure"]

from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

_NAMES = {
    **{"A": "ALA", "R": "ARG", "N": "ASN", "D": "ASP", "C": "CYS", "Q": "GLN", "E": "GLU", "G": "GLY", "H": "HIS"},
    **{"I": "ILE", "L": "LEU", "K": "LYS", "M": "MET", "F": "PHE", "P": "PRO", "S": "SER", "T": "THR", "W": "TRP"},
    **{"Y": "TYR", "V": "VAL", "U": "SEC", "O": "PYL"},
}
_FEWEST = 3


def chain(coordinates: Any, sequence: str | None = None, confidence: Any = None) -> Any:
    """C-alpha atoms as a biotite AtomArray: chain A, residues counted from 1.

    Args:
        coordinates: In Angstrom, shape (residues, 3).
        sequence: One letter a residue; UNK for what is no amino acid, or without a sequence.
        confidence: Becomes the B-factor, shape (residues,).
    """
    import biotite.structure as struc

    length = len(coordinates)
    atoms = struc.AtomArray(length)
    atoms.coord = np.asarray(coordinates, np.float32)
    atoms.chain_id[:] = "A"
    atoms.res_id = np.arange(1, length + 1)
    atoms.res_name = np.array([_NAMES.get(letter.upper(), "UNK") for letter in sequence or "X" * length])
    atoms.atom_name[:] = "CA"
    atoms.element[:] = "C"
    if confidence is not None:
        atoms.set_annotation("b_factor", np.asarray(confidence, float))
    return atoms


def structure_scores(predicted: Any, true: NDArray[np.float32]) -> dict[str, float]:
    """``lddt``, ``tm_score`` and ``rmsd`` of C-alpha atoms; NaN where fewer than three are known.

    The chains are laid on each other by least squares, which is not the motion of the best TM-score: the value is a
    lower bound of what TM-align and TM-score report.

    Args:
        predicted: In Angstrom, shape (residues, 3).
        true: The same, NaN where an atom is missing; those residues are left out, also of the length in TM-score.
    """
    import biotite.structure as struc

    known = ~np.isnan(true).any(1)
    if known.sum() < _FEWEST:
        return dict.fromkeys(("lddt", "tm_score", "rmsd"), np.nan)
    reference, subject = chain(true[known]), chain(np.asarray(predicted, np.float32)[known])
    laid, _ = struc.superimpose(reference, subject)
    every = np.arange(len(reference))
    length = max(len(reference), 19)  # the scale of TM-score is not defined for shorter chains
    return {
        "lddt": float(struc.lddt(reference, subject)),
        "tm_score": float(struc.tm_score(reference, laid, every, every, length)),
        "rmsd": float(struc.rmsd(reference, laid)),
    }


def write_structure(atoms: Any, stem: Path) -> None:
    """Writes ``<stem>.pdb`` and ``<stem>.cif``.

    Args:
        atoms: Of `chain`.
        stem: Path without suffix.
    """
    from biotite.structure.io import pdb, pdbx

    old = pdb.PDBFile()
    old.set_structure(atoms)
    old.write(str(stem.with_name(f"{stem.name}.pdb")))
    new = pdbx.CIFFile()
    pdbx.set_structure(new, atoms)
    new.write(str(stem.with_name(f"{stem.name}.cif")))
