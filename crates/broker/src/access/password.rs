//! Passwords as hashes. New ones become argon2id, which makes guessing from a stolen catalog slow; the salted hashes of
//! RabbitMQ, which its definitions carry, are verified and handed out as they came.

use std::fmt;

use argon2::password_hash::{PasswordHash as PhcString, PasswordHasher, SaltString};
use argon2::{Algorithm, Argon2, Params, PasswordVerifier, Version};
use md5::Md5;
use sha2::{Digest, Sha256, Sha512};
use subtle::ConstantTimeEq;

use crate::error::BrokerError;

/// Memory of one verification in KiB: as much as few verifications at a time may well have.
const MEMORY_KIB: u32 = 8 * 1024;

/// Passes over it: with that memory, one verification takes 10 to 20 ms.
const PASSES: u32 = 2;

/// Most memory in KiB and most passes that a hash from elsewhere may ask for: whoever brings it must not choose what
/// a login costs.
const MEMORY_KIB_MAX: u32 = 64 * 1024;
const PASSES_MAX: u32 = 8;
const LANES_MAX: u32 = 4;

/// Octets of salt in front of RabbitMQ's hashes.
const SALT_BYTES: usize = 4;

/// How a password was hashed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum HashAlgorithm {
    /// What new passwords get.
    Argon2id,
    /// RabbitMQ's default: four octets of salt, then SHA-256 of salt and password.
    Sha256,
    /// The same with SHA-512.
    Sha512,
    /// The same with MD5: RabbitMQ before 3.6.
    Md5,
}

impl HashAlgorithm {
    const ALL: [Self; 4] = [Self::Argon2id, Self::Sha256, Self::Sha512, Self::Md5];

    /// Its name in definitions.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Argon2id => "leveret_password_hashing_argon2id",
            Self::Sha256 => "rabbit_password_hashing_sha256",
            Self::Sha512 => "rabbit_password_hashing_sha512",
            Self::Md5 => "rabbit_password_hashing_md5",
        }
    }

    /// The one of that name.
    #[must_use]
    pub fn named(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|algorithm| algorithm.as_str() == name)
    }
}

/// A password that was hashed.
#[derive(Clone, PartialEq, Eq)]
pub struct PasswordHash {
    algorithm: HashAlgorithm,
    octets: Vec<u8>,
}

/// Octets of hashes stay out of logs.
impl fmt::Debug for PasswordHash {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("PasswordHash").field("algorithm", &self.algorithm).finish_non_exhaustive()
    }
}

impl PasswordHash {
    /// Hashes a new password. Takes 10 to 20 ms of a processor and 8 MiB for that time.
    ///
    /// # Errors
    /// A blank password, or the system gives no random salt.
    pub fn new(password: &[u8]) -> Result<Self, BrokerError> {
        if password.is_empty() {
            return Err(BrokerError::BlankPassword);
        }
        let failed = |reason: String| BrokerError::PasswordNotHashed { reason };
        let mut salt = [0; 16];
        getrandom::fill(&mut salt).map_err(|error| failed(error.to_string()))?;
        let salt = SaltString::encode_b64(&salt).map_err(|error| failed(error.to_string()))?;
        let params = Params::new(MEMORY_KIB, PASSES, 1, None).map_err(|error| failed(error.to_string()))?;
        let hash = Argon2::new(Algorithm::Argon2id, Version::V0x13, params)
            .hash_password(password, &salt)
            .map_err(|error| failed(error.to_string()))?;
        Ok(Self { algorithm: HashAlgorithm::Argon2id, octets: hash.to_string().into_bytes() })
    }

    /// A hash that was made before, here or by RabbitMQ, as [`octets`](Self::octets) gives it.
    ///
    /// # Errors
    /// It has not the form that the algorithm's hashes have, or verifying it would cost too much.
    pub fn imported(algorithm: HashAlgorithm, octets: Vec<u8>) -> Result<Self, BrokerError> {
        let is_possible = match algorithm {
            HashAlgorithm::Argon2id => is_bounded(&octets),
            HashAlgorithm::Sha256 => octets.len() == SALT_BYTES + 32,
            HashAlgorithm::Sha512 => octets.len() == SALT_BYTES + 64,
            HashAlgorithm::Md5 => octets.len() == SALT_BYTES + 16,
        };
        if is_possible { Ok(Self { algorithm, octets }) } else { Err(BrokerError::InvalidPasswordHash) }
    }

    /// How it was hashed.
    #[must_use]
    pub fn algorithm(&self) -> HashAlgorithm {
        self.algorithm
    }

    /// Salt and hash: of argon2id as the usual text, of RabbitMQ's one behind the other.
    #[must_use]
    pub fn octets(&self) -> &[u8] {
        &self.octets
    }

    /// Whether `password` was hashed to this. Takes as long as [`new`](Self::new) whatever the algorithm, so that
    /// how long a refusal takes says nothing.
    #[must_use]
    pub fn verify(&self, password: &[u8]) -> bool {
        let is_right = match self.algorithm {
            HashAlgorithm::Argon2id => argon2_verifies(&self.octets, password),
            algorithm => {
                spend_time(password);
                let (salt, hash) = self.octets.split_at_checked(SALT_BYTES).unwrap_or_default();
                let found = match algorithm {
                    HashAlgorithm::Sha512 => salted::<Sha512>(salt, password),
                    HashAlgorithm::Md5 => salted::<Md5>(salt, password),
                    _ => salted::<Sha256>(salt, password),
                };
                bool::from(found.as_slice().ct_eq(hash))
            }
        };
        // COMPAT: a blank password never opens anything.
        is_right && !password.is_empty()
    }
}

/// Takes as long as verifying a password that exists: for users who do not, or have none.
pub fn spend_time(password: &[u8]) {
    // A hash of nobody's password: the octets are of no importance, the parameters are.
    let mut hash = [0; 32];
    if let Ok(params) = Params::new(MEMORY_KIB, PASSES, 1, None) {
        let argon2 = Argon2::new(Algorithm::Argon2id, Version::V0x13, params);
        // What comes out, be it an error, is nobody's business.
        let _ = argon2.hash_password_into(password, &[0; 16], &mut hash);
    }
    std::hint::black_box(&hash);
}

fn salted<D: Digest>(salt: &[u8], password: &[u8]) -> Vec<u8> {
    D::new().chain_update(salt).chain_update(password).finalize().to_vec()
}

fn parsed(octets: &[u8]) -> Option<PhcString<'_>> {
    PhcString::new(str::from_utf8(octets).ok()?).ok()
}

fn argon2_verifies(octets: &[u8], password: &[u8]) -> bool {
    parsed(octets).is_some_and(|hash| Argon2::default().verify_password(password, &hash).is_ok())
}

/// Whether verifying costs no more than it may.
fn is_bounded(octets: &[u8]) -> bool {
    let Some(hash) = parsed(octets) else { return false };
    let Ok(params) = Params::try_from(&hash) else { return false };
    hash.algorithm == Algorithm::Argon2id.ident()
        && hash.salt.is_some()
        && hash.hash.is_some()
        && params.m_cost() <= MEMORY_KIB_MAX
        && params.t_cost() <= PASSES_MAX
        && params.p_cost() <= LANES_MAX
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_new_password_opens_and_another_does_not() {
        let hash = PasswordHash::new(b"secret").unwrap();
        assert_eq!(hash.algorithm(), HashAlgorithm::Argon2id);
        assert!(hash.verify(b"secret") && !hash.verify(b"Secret") && !hash.verify(b""));
        let again = PasswordHash::imported(HashAlgorithm::Argon2id, hash.octets().to_vec()).unwrap();
        assert!(again.verify(b"secret"));
        assert_ne!(PasswordHash::new(b"secret").unwrap(), hash, "each hash has a salt of its own");
    }

    /// What RabbitMQ 3.10.8 made of the password `secret`, in hexadecimal digits.
    #[test]
    fn hashes_of_rabbitmq_verify_unchanged() {
        let vectors = [
            (
                HashAlgorithm::Sha256,
                "00bfeedb33c804ff10efc2728b4309f286ad3a81546b56f8940ab7d9fa535a608eaa5b28",
            ),
            (
                HashAlgorithm::Sha512,
                "66f0be06b62c4b0347366170b8e7ef346429aae691e811b00549f65ddea5378becfc3e57\
                 c95e6ff7a5c1b51e19a850fb9e37d71a5be028b0cc33e1cde8284f88d3bb9d78",
            ),
            (HashAlgorithm::Md5, "413bab0219534e9c5cc24658b3ecd12701646b55"),
        ];
        for (algorithm, digits) in vectors {
            let octet = |at| u8::from_str_radix(&digits[at..at + 2], 16).unwrap();
            let octets: Vec<_> = (0..digits.len()).step_by(2).map(octet).collect();
            let hash = PasswordHash::imported(algorithm, octets.clone()).unwrap();
            assert!(hash.verify(b"secret") && !hash.verify(b"Secret"), "{algorithm:?}");
            assert_eq!(hash.octets(), octets);
        }
    }

    #[test]
    fn a_blank_password_is_refused_and_opens_nothing() {
        assert_eq!(PasswordHash::new(b""), Err(BrokerError::BlankPassword));
        let salt = [1, 2, 3, 4];
        let octets = [salt.to_vec(), salted::<Sha256>(&salt, b"")].concat();
        assert!(!PasswordHash::imported(HashAlgorithm::Sha256, octets).unwrap().verify(b""));
    }

    #[test]
    fn hashes_that_cost_too_much_or_have_another_length_are_refused() {
        let dear = b"$argon2id$v=19$m=4194304,t=2,p=1$AAAAAAAAAAAAAAAAAAAAAA$AAAAAAAAAAAAAAAAAAAA\
              AAAAAAAAAAAAAAAAAAAAAAA";
        assert!(PasswordHash::imported(HashAlgorithm::Argon2id, dear.to_vec()).is_err());
        assert!(PasswordHash::imported(HashAlgorithm::Argon2id, b"nonsense".to_vec()).is_err());
        assert!(PasswordHash::imported(HashAlgorithm::Sha256, vec![0; 35]).is_err());
        assert!(PasswordHash::imported(HashAlgorithm::Sha512, vec![0; 36]).is_err());
        assert!(PasswordHash::imported(HashAlgorithm::Md5, vec![0; 20]).is_ok());
    }
}
